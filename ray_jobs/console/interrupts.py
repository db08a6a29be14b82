"""Interrupts from signals: of the user, of Ray or of Kubernetes.

A signal that stops the process raises `KeyboardInterrupt`. That exception can be lost: a signal handler may raise it in
code that ignores exceptions, or Ray may have installed a handler of its own. (A job was seen to run on when it was
stopped while it connected.) So it is raised again after a while, until it is acknowledged.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from types import FrameType

STOP_SIGNAL = "RAY_JOB_STOP_SIGNAL"
"""Environment variable with the signal by which Ray stops a job. Ray replaces handlers of SIGTERM: submitted jobs set
it to SIGINT."""
REPEAT_S = 20.0
"""Seconds between interrupts: longer than it takes to shut workers down, and short beside a job's time to stop."""


def install_handlers(environment: Mapping[str, str]) -> None:
    """Turn signals that stop a process into interrupts. SIGINT keeps its handler unless Ray stops jobs with it.

    Args:
        environment: of this process.
    """
    numbers = [signal.SIGTERM, signal.SIGALRM]
    if environment.get(STOP_SIGNAL) == "SIGINT":
        numbers.append(signal.SIGINT)
    for number in numbers:
        signal.signal(number, _interrupt)


def acknowledge() -> None:
    """Stop repeating the interrupt: the command is ending."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    signal.setitimer(signal.ITIMER_REAL, REPEAT_S)
    raise KeyboardInterrupt
