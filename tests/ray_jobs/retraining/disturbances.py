"""Disturb a command at a storage write: kill its process there, or let it wait while somebody else does something.

The process counts its own writes, so a point is the same write however busy the machine is. Renewals of a lease, which
depend on the time, are not counted; nor is the check whether anything can be written, which writes nothing.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cluster import Store
from tests.ray_jobs.place import fewshot, wait_until, warm

WRITES = ("write", "create", "delete")
"""Operations of a store that change it."""
NOTED = ("messages", "paths")
"""Files in which a process notes what `Ended` has."""
COUNT, KILL, WAIT, STOP = "count", "kill", "wait", "stop"


@dataclass(frozen=True)
class Ended:
    """How a command in a process of its own ended.

    Attributes:
        code: exit code, negative if a signal ended it.
        messages: what it told on stderr.
        paths: of its storage writes, as far as it came.
    """

    code: int | None
    messages: str
    paths: tuple[str, ...]


def run_whole(words: Sequence[str]) -> Ended:
    """Run a command to its end."""
    return _run(words, COUNT, 0)


def kill_before(words: Sequence[str], point: int) -> Ended:
    """Run a command that kills itself before its storage write `point`, from 1."""
    return _run(words, KILL, point)


def interrupt_before(words: Sequence[str], point: int, action: Callable[[], object]) -> Ended:
    """Run a command that waits before its storage write `point`, from 1, until an action of this process is over."""
    return _run(words, WAIT, point, action)


def suspend_before(words: Sequence[str], point: int, action: Callable[[], object]) -> Ended:
    """Run a command that stops as a whole before its storage write `point`, from 1, until an action is over."""
    return _run(words, STOP, point, action)


def run_together(words: Sequence[str], count: int) -> list[Ended]:
    """Run a command several times at once, each in a process of its own."""
    with ExitStack() as started:
        processes = [started.enter_context(_started(words, COUNT, 0)) for _ in range(count)]
        return [process.end() for process in processes]


@dataclass(frozen=True)
class _Process:
    process: BaseProcess
    notes: Path

    @property
    def is_held(self) -> bool:
        """Whether it has come to its point; one that has ended is held no more."""
        return (self.notes / "held").exists() and self.process.is_alive()

    def end(self) -> Ended:
        self.process.join()
        texts = [(self.notes / each).read_text() if (self.notes / each).exists() else "" for each in NOTED]
        return Ended(self.process.exitcode, texts[0], tuple(json.loads(line) for line in texts[1].splitlines()))


@contextmanager
def _started(words: Sequence[str], how: str, point: int) -> Iterator[_Process]:
    with TemporaryDirectory(prefix="disturbed-") as name:
        process = warm().Process(target=_disturbed, args=(tuple(words), how, point, Path(name)))
        process.start()
        yield _Process(process, Path(name))


def _run(words: Sequence[str], how: str, point: int, action: Callable[[], object] = lambda: None) -> Ended:
    with _started(words, how, point) as started:
        if how in (WAIT, STOP):
            wait_until(lambda: started.is_held or not started.process.is_alive())
            try:
                if started.is_held:
                    action()
            finally:
                (started.notes / "go on").touch()
                if how == STOP and started.is_held and started.process.pid is not None:
                    os.kill(started.process.pid, signal.SIGCONT)
        return started.end()


def _disturbed(words: tuple[str, ...], how: str, point: int, notes: Path) -> None:
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    retried, lock, count = Store._retried, threading.RLock(), 0

    def noted(store: Store, operation: str, path: str, action: Any) -> Any:
        nonlocal count
        if operation not in WRITES or not path or threading.current_thread().name == "lease":
            return retried(store, operation, path, action)
        with lock:
            count += 1
            if count == point and how == KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            if count == point and how in (WAIT, STOP):
                (notes / "held").touch()
                if how == STOP:
                    os.kill(os.getpid(), signal.SIGSTOP)
                wait_until((notes / "go on").exists)
            with (notes / "paths").open("a") as file:
                file.write(json.dumps(path) + "\n")
        return retried(store, operation, path, action)

    Store._retried = noted  # type: ignore[method-assign]
    outcome = fewshot(*words)
    (notes / "messages").write_text(outcome.messages)
    sys.exit(outcome.code)
