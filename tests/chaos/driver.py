"""The driver of a job, as a process that may be killed, and the journal of how often it had to be started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Driver:
    """Runs a command again and again, until it has come to its end.

    Attributes:
        words: of the command.
        environment: more than this process has.
        log: where it tells how it is going.
        codes: exit codes so far; negative where a signal ended it.
    """

    words: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    codes: list[int] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    def start(self, settings: Mapping[str, Any]) -> None:
        """Start the command with some keys of its job file set, in a session of its own."""
        more = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ray_jobs", *self.words, *more],
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    def is_over(self) -> bool:
        """Whether the process has ended; its exit code is noted then."""
        if self.process is None:
            return True
        code = self.process.poll()
        if code is None:
            return False
        self.codes.append(code)
        self.process = None
        return True

    def kill(self) -> bool:
        """SIGKILL, if it runs."""
        if self.process is None or self.process.poll() is not None:
            return False
        self.process.kill()
        return True

    def told(self) -> str:
        """The end of what it told."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""
