"""The driver of a job, as a process that may be killed, and the journal of how often it had to be started."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ray_jobs.commands.app import main
from tests.chaos.scenarios import Scenario
from tests.ray_jobs.place import warm

ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1", "FEWSHOT_LOG": "WARNING"}


@dataclass
class Driver:
    """Runs a command again and again, until it has come to its end.

    Attributes:
        words: of the command.
        log: where it tells how it is going.
        codes: exit codes so far; negative where a signal ended it.
    """

    words: Sequence[str]
    log: Path
    codes: list[int] = field(default_factory=list)
    process: BaseProcess | None = None

    @classmethod
    def of(cls, scenario: Scenario, log: Path) -> Driver:
        """What runs a scenario's command."""
        return cls((scenario.command, str(scenario.job)), log)

    def start(self, settings: Mapping[str, Any]) -> None:
        """Start the command with some keys of its job file set, in a session of its own."""
        more = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        self.process = warm().Process(target=_run, args=([*self.words, *more], os.environ | ENVIRONMENT, self.log))
        self.process.start()

    def is_over(self) -> bool:
        """Whether the process has ended; its exit code is noted then."""
        if self.process is None:
            return True
        code = self.process.exitcode
        if code is None:
            return False
        self.codes.append(code)
        self.process = None
        return True

    def kill(self) -> bool:
        """SIGKILL, if it runs."""
        if self.process is None or self.process.exitcode is not None:
            return False
        self.process.kill()
        return True

    def messages(self) -> str:
        """The end of what it told."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""


def _run(words: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    with log.open("ab") as messages, Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(messages.fileno(), 2)
    sys.argv = ["fewshot", *words]
    main()
