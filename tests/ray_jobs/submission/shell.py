"""Commands in one process of their own: Ray reads its environment once, and takes seconds to load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any


@dataclass(frozen=True)
class Answer:
    """What a command left.

    Attributes:
        code: its exit code.
        stdout: as it is.
        stderr: as it is.
    """

    code: int
    stdout: str
    stderr: str

    @property
    def result(self) -> Any:
        return json.loads(self.stdout)


class Shell:
    """Runs `fewshot` commands in another process, one at a time."""

    def __init__(self, process: subprocess.Popen[str], asked: IO[str], answered: IO[str]) -> None:
        self._process, self._asked, self._answered = process, asked, answered

    def __call__(self, *words: object) -> Answer:
        self._asked.write(json.dumps([str(word) for word in words]) + "\n")
        self._asked.flush()
        return Answer(*json.loads(self._answered.readline()))


@contextmanager
def shell(environment: Mapping[str, str]) -> Iterator[Shell]:
    """Start such a process with these variables beside our own."""
    command = [sys.executable, "-m", "tests.ray_jobs.submission.shell"]
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment
    with subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Shell(process, process.stdin, process.stdout)
        process.stdin.close()


def main() -> None:
    """Answer commands, a line of JSON each, until there are no more."""
    from typer.testing import CliRunner

    from ray_jobs.commands.app import app

    for line in sys.stdin:
        done = CliRunner().invoke(app, json.loads(line))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        sys.stdout.write(json.dumps([done.exit_code, done.stdout, done.stderr]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
