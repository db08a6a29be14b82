"""The driver of a job: a process that may be killed, and the exit codes of its starts."""

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
    """Runs a command, again after each failure.

    Attributes:
        arguments: of the command.
        log: file with its stderr.
        codes: exit codes so far; negative where a signal ended the process.
        process: the running process; None if there is none.
    """

    arguments: Sequence[str]
    log: Path
    codes: list[int] = field(default_factory=list)
    process: BaseProcess | None = None

    @classmethod
    def from_scenario(cls, scenario: Scenario, log: Path) -> Driver:
        """Return the driver of a scenario's command."""
        return cls((scenario.command, str(scenario.job)), log)

    def start(self, settings: Mapping[str, Any]) -> None:
        """Start the command with some keys of its job file set, in its own process session."""
        options = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        self.process = warm().Process(
            target=_run, args=([*self.arguments, *options], os.environ | ENVIRONMENT, self.log)
        )
        self.process.start()

    def is_over(self) -> bool:
        """Return whether the process has ended; add its exit code to `codes` then."""
        if self.process is None:
            return True
        code = self.process.exitcode
        if code is None:
            return False
        self.codes.append(code)
        self.process = None
        return True

    def kill(self) -> bool:
        """SIGKILL the process; return False if it does not run."""
        if self.process is None or self.process.exitcode is not None:
            return False
        self.process.kill()
        return True

    def log_tail(self) -> str:
        """Return the end of the log."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""


def _run(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    with log.open("ab") as stderr, Path(os.devnull).open("wb") as stdout:
        os.dup2(stdout.fileno(), 1)
        os.dup2(stderr.fileno(), 2)
    sys.argv = ["fewshot", *arguments]
    main()
