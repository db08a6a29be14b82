"""Print what a command waits for: a line on stderr if something takes longer than `AFTER_S`.

Imports little but the standard library: the first thing that commands wait for is the import of everything else.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ray_jobs.console.interrupts import begin_work

AFTER_S = 0.4
"""Seconds after which a line is printed: about as long as a command takes to parse its arguments."""

_LOADING: list[threading.Timer] = []
"""The announcement that libraries are being loaded, until the first `Reporter` is made."""


@contextmanager
def announced(what: str, say: Callable[[str], object]) -> Iterator[None]:
    """Announce something that may take long, once it has taken `AFTER_S`.

    Args:
        what: a phrase, such as "reading the archive".
        say: shows a line. Called in another thread.
    """
    timer = _start(what, say)
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def loading() -> Iterator[None]:
    """Announce that libraries are loaded, from now until `finish_loading`, at most to the end of the block."""
    _LOADING.append(_start("loading libraries", lambda line: sys.stderr.write(f"{line}\n")))
    try:
        yield
    finally:
        finish_loading()


def finish_loading() -> None:
    """Cancel the announcement that libraries are being loaded; the work of a command begins, see `begin_work`."""
    begin_work()
    while _LOADING:
        _LOADING.pop().cancel()


def _start(what: str, say: Callable[[str], object]) -> threading.Timer:
    timer = threading.Timer(AFTER_S, say, (f"{what} …",))
    timer.daemon = True
    timer.start()
    return timer
