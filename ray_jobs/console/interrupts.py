"""Being told to stop, by Ray, by Kubernetes or by whoever waits: an interrupt, and one that does not get lost.

An exception out of a signal handler can end in a place that ignores exceptions, or a handler of Ray's own may be in
place (a job was seen to run on when it was stopped while it connected). So the exception is raised again after a while,
until the command has come to its end.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from types import FrameType

STOP_SIGNAL = "RAY_JOB_STOP_SIGNAL"
"""The environment variable that makes Ray stop a job with SIGINT: it replaces handlers of SIGTERM by its own."""
AGAIN_S = 20.0
"""Seconds from an interrupt to the next: longer than workers take to be dismissed, short in the time a job is given."""


def listen(environment: Mapping[str, str]) -> None:
    """Turn the signals that stop a process into interrupts. Ctrl-C is left alone where it is the user's."""
    numbers = [signal.SIGTERM, signal.SIGALRM]
    if environment.get(STOP_SIGNAL) == "SIGINT":
        numbers.append(signal.SIGINT)
    for number in numbers:
        signal.signal(number, _interrupt)


def heard() -> None:
    """The interrupt has arrived: there will be no other."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
    raise KeyboardInterrupt
