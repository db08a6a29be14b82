"""One turn of a schedule as a process of its own: its memory is given back, and its crash ends nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO

from ray_jobs.console.interrupts import acknowledge, time_to_end
from ray_jobs.console.sanitize import sanitized
from ray_jobs.job_file.command_needs import SCHEDULED_OPTIONS

KEPT_LINES, KEPT_CHARACTERS = 20, 300
"""Of what a turn writes, what is stored."""
STEP_S = 20.0
"""Seconds that an interrupted turn has before it gets a stronger signal."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
"""What ends a turn: as Ctrl-C does it, then as a batch system does it, then certainly."""
_REST_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnd:
    """How a turn ended.

    Attributes:
        exit_code: of its process; negative numbers are signals.
        last_lines: what it wrote last, without secrets and control characters.
        interrupted: whether this process was interrupted meanwhile, and ended the turn.
    """

    exit_code: int
    last_lines: tuple[str, ...]
    interrupted: bool = False


def command_line(command: str, job_file: str | Path, overrides: Sequence[str]) -> list[str]:
    """Return the command line of a turn.

    Args:
        command: of `fewshot`.
        job_file: its job file.
        overrides: "section.key=value".
    """
    settings = [word for override in overrides for word in ("--set", override)]
    options = SCHEDULED_OPTIONS.get(command, ())
    return [sys.executable, "-m", "ray_jobs", command, str(job_file), *settings, *options]


def run_turn(words: Sequence[str], show: Callable[[str], object]) -> TurnEnd:
    """Run a turn to its end. If this process is interrupted, the turn is ended as Ctrl-C ends it; see `SIGNALS`.

    The process has a session of its own: Ctrl-C in a terminal reaches it once, through this process.

    Args:
        words: the command line, see `command_line`.
        show: gets each line of its messages. Called in another thread.
    """
    lines: deque[str] = deque(maxlen=KEPT_LINES)
    interrupted = False
    with time_to_end(len(SIGNALS) * STEP_S):
        process = subprocess.Popen(  # noqa: S603 -- our own command
            words,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert process.stderr is not None
        reader = Thread(target=_follow, args=(process.stderr, lines, show), name="turn", daemon=True)
        reader.start()
        try:
            process.wait()
        except KeyboardInterrupt:
            acknowledge()
            interrupted = True
            show("interrupted; ending the turn, Ctrl-C again ends at once")
            _end(process)
        reader.join(_REST_S)  # Processes that it has left behind may still hold the pipe.
    return TurnEnd(exit_code=process.returncode, last_lines=tuple(lines), interrupted=interrupted)


def _follow(stream: IO[str], lines: deque[str], show: Callable[[str], object]) -> None:
    with suppress(ValueError, OSError):  # The pipe is closed with the process.
        for line in stream:
            clean = sanitized(line.rstrip())
            lines.append(clean[:KEPT_CHARACTERS])
            with suppress(ValueError, OSError):  # A broken terminal must not block the turn, whose pipe would fill.
                show(clean)


def _end(process: subprocess.Popen[str]) -> None:
    for number in SIGNALS:
        with suppress(ProcessLookupError):
            process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STEP_S)
            return
    process.wait()
