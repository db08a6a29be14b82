"""Interrupts from signals: of the user, of Ray or of Kubernetes.

A signal that stops the process raises `KeyboardInterrupt`. That exception can be lost: a signal handler may raise it in
code that ignores exceptions, or Ray may have installed a handler of its own. (A job was seen to run on when it was
stopped while it connected.) So it is raised again after a while, until it is acknowledged.

Python raises it only between two steps of its own: not while the main thread loads a library or waits in native code,
and only after a unit in another thread has finished. So a separate thread waits for Ctrl-C, which the kernel writes to
a pipe, and prints a message. It ends the process if that has not ended `GRACE_S` later: every write is atomic, so only
the current units are lost. Another signal may come just before the main thread begins to wait, and then does not end
the wait: so that thread wakes the main one by a signal that does nothing else.

Before a command begins and after it has ended there is nothing to stop: then Ctrl-C ends the process where it stands,
without an exception that other code could show as a traceback.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

STOP_SIGNAL = "RAY_JOB_STOP_SIGNAL"
"""Environment variable with the signal by which Ray stops a job. Ray replaces handlers of SIGTERM: submitted jobs set
it to SIGINT."""
REPEAT_S = 20.0
"""Seconds between interrupts: longer than it takes to shut workers down, and short beside a job's time to stop."""
GRACE_S = 0.8
"""Seconds from Ctrl-C to the end of the process, also if it is waiting for something."""
MESSAGE_AFTER_S = 0.3
"""Seconds that the command has to print the message itself."""
INTERRUPTED = 130
"""Exit code of an interrupted process."""
WAKE_AFTER_S = (0.05, 0.5)
"""Seconds from another signal until the main thread is woken from what it waits for."""
MESSAGE = "interrupted; finished work is kept, run again to resume"
STOPPING = "stopping the workers, Ctrl-C again ends at once"
"""What follows the message where other processes must be stopped first."""
_SHOW_CURSOR = "\x1b[?25h"


class _State:
    """The handling of Ctrl-C in this process."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # A signal handler may come while its thread holds it.
        self.acknowledged = threading.Event()
        self.is_reported = False
        self.grace_s = GRACE_S
        self.is_watching = False
        self.is_working = False


_state = _State()


def install_handlers(environment: Mapping[str, str]) -> None:
    """Turn signals that stop a process into interrupts. Where SIGINT is ignored, as in background jobs, it stays so.

    Args:
        environment: of this process.
    """
    numbers = [signal.SIGTERM, signal.SIGALRM]
    if environment.get(STOP_SIGNAL) == "SIGINT":
        numbers.append(signal.SIGINT)
    elif not _state.is_watching and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        _state.is_watching = True
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.signal(signal.SIGINT, _on_ctrl_c)
        signal.signal(signal.SIGURG, _wake)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        threading.Thread(target=_watch, args=(reader,), name="interrupts", daemon=True).start()
    for number in numbers:
        signal.signal(number, _interrupt)


def begin_work() -> None:
    """From now on Ctrl-C raises `KeyboardInterrupt`: there may be something to stop."""
    _state.is_working = True


def end_work() -> None:
    """From now on Ctrl-C ends the process where it stands."""
    _state.is_working = False


def acknowledge() -> None:
    """Stop repeating the interrupt, and print nothing more about it: the command is ending."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    with _state.lock:
        _state.acknowledged.set()
        _state.is_reported = True


def report() -> None:
    """Print the message about the interrupt, unless it was printed or acknowledged. See `acknowledge`."""
    _report_once(f"error: {MESSAGE}\n")
    acknowledge()


def end_interrupted() -> NoReturn:
    """Print what is missing, and end this process with `INTERRUPTED`.

    `sys.exit` would wait for threads. And Python ends itself by the signal instead if the exception has passed through
    code that was compiled from text, as that of dataclasses is.
    """
    report()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    _end()


@contextmanager
def time_to_end(seconds: float) -> Iterator[None]:
    """Within the block, allow this many seconds from Ctrl-C to the end: other processes must be stopped first."""
    _state.grace_s, before = max(seconds, _state.grace_s), _state.grace_s
    try:
        yield
    finally:
        if not _state.acknowledged.is_set():
            _state.grace_s = before


def _watch(reader: int) -> None:
    """Start to end the process at the first Ctrl-C, and end it immediately at the second."""
    pressed_at = None
    while True:
        numbers = os.read(reader, 64)
        if signal.SIGTERM in numbers:
            threading.Thread(target=_wake_main_thread, name="woken", daemon=True).start()
        if signal.SIGINT not in numbers:
            continue
        if pressed_at is not None:
            _end()
        pressed_at = time.monotonic()
        threading.Thread(target=_report_and_end, args=(pressed_at,), name="interrupted", daemon=True).start()


def _report_and_end(pressed_at: float) -> None:
    _state.acknowledged.wait(MESSAGE_AFTER_S)
    _report_once(f"error: {MESSAGE}{f' ({STOPPING})' if _state.grace_s > GRACE_S else ''}\n")
    while time.monotonic() < pressed_at + _state.grace_s:
        time.sleep(0.05)
    _end()


def _wake_main_thread() -> None:
    for seconds in WAKE_AFTER_S:
        time.sleep(seconds)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGURG)


def _report_once(line: str) -> None:
    with _state.lock:
        if not _state.is_reported:
            _state.is_reported = True
            _write(line)


def _end() -> NoReturn:
    """End this process without waiting for its threads."""
    if sys.stderr.isatty():
        _write(_SHOW_CURSOR)
    os._exit(INTERRUPTED)


def _write(text: str) -> None:
    """Write to stderr, whatever holds the lock of its buffer."""
    with suppress(OSError):
        os.write(2, text.encode())


def _on_ctrl_c(number: int, frame: FrameType | None) -> None:
    if _state.is_working:
        signal.default_int_handler(number, frame)
    report()
    _end()


def _wake(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: handlers of signals that came before run with this one."""


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    signal.setitimer(signal.ITIMER_REAL, REPEAT_S)
    raise KeyboardInterrupt
