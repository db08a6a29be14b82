"""fsspec file systems that fail on demand, `faulty://`, or serve concurrent threads correctly, `orderly://`.

Also the files that a killed writer leaves on a local one.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

from cluster import Retry


class OrderlyFileSystem(MemoryFileSystem):
    """Keeps objects in memory, and serves one request at a time.

    In fsspec's own, an object removed during a listing raises KeyError, and two concurrent creators may both succeed.
    """

    protocol = "orderly"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    lock: ClassVar[threading.RLock] = threading.RLock()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace(f"{cls.protocol}://", "memory://"))

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        with self.lock:
            super().pipe_file(path, value, mode=mode)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        with self.lock:
            return super().ls(path, detail=detail)

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        with self.lock:
            return super().info(path)

    def rm_file(self, path: str) -> None:
        with self.lock:
            super().rm_file(path)


Fault = Callable[["FaultyFileSystem", str, bytes], None]


class FaultyFileSystem(MemoryFileSystem):
    """Keeps objects in memory. The n-th call of an operation has the n-th of its planned faults, or none for None."""

    protocol = "faulty"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    plan: ClassVar[dict[str, list[Fault | None]]] = {}
    calls: ClassVar[list[str]] = []

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("faulty://", "memory://"))

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        self._apply_fault("write", path, value)
        super().pipe_file(path, value, mode=mode)
        self._apply_fault("acknowledge", path, value)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        self._apply_fault("read", path)
        return super().cat_file(path, start, end)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        self._apply_fault("list", path)
        return super().ls(path, detail=detail)

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        self._apply_fault("look up", path)
        return super().info(path)

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        if self.plan.get("open"):  # `cat_file` opens as well, and is counted as one read.
            self._apply_fault("open", path)
        return super()._open(path, mode, **kwargs)

    def _apply_fault(self, operation: str, path: str, data: bytes = b"") -> None:
        self.calls.append(operation)
        planned = self.plan.get(operation, [])
        if planned and (fault := planned.pop(0)) is not None:
            fault(self, path, data)


fsspec.register_implementation("orderly", OrderlyFileSystem, clobber=True)
fsspec.register_implementation("faulty", FaultyFileSystem, clobber=True)


def fails(error: Exception) -> Fault:
    def fault(filesystem: FaultyFileSystem, path: str, data: bytes) -> None:
        raise error

    return fault


def cut_half_way(filesystem: FaultyFileSystem, path: str, data: bytes) -> None:
    """Break the connection after half of the object has been written."""
    MemoryFileSystem.pipe_file(filesystem, path, data[: len(data) // 2])
    raise ConnectionResetError("cut off")


def slow(filesystem: FaultyFileSystem, path: str, data: bytes) -> None:
    time.sleep(0.02)


@contextmanager
def faults(**plan: list[Fault | None]) -> Iterator[FaultyFileSystem]:
    """Provide an empty `faulty://` with this plan: `faults(write=[fails(...), None, cut_half_way])`."""
    FaultyFileSystem.store.clear()
    FaultyFileSystem.pseudo_dirs[:] = [""]
    FaultyFileSystem.calls.clear()
    FaultyFileSystem.plan = {operation.replace("_", " "): list(planned) for operation, planned in plan.items()}
    yield FaultyFileSystem()
    FaultyFileSystem.plan = {}


def write_temporary_file(folder: Path, age_s: float) -> Path:
    """Write a temporary file like that of a killed writer, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".tmp-{uuid4().hex}"
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def instant_retry() -> Retry:
    """Return a few retries that take no time, by a clock that only they move: a slow machine gets as many."""
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    return Retry(first_delay_s=1.0, deadline_s=60.0, clock=lambda: now, sleep=sleep)
