"""Requests ahead of their results' use: as many in flight as hide the latency, within limits of a process.

A reader that uses R results a second of requests that take L seconds needs R x L of them in flight, and neither number
is known before. So a window of requests is ahead of the reader, and it is doubled whenever the reader has to wait
although the window is full. Results that are ready and not used yet count as well: a slow reader soon has its window
full of them, and each that it uses allows one request. The window is that of the process and stays for the next shard.

All readers of a process share one pool of threads and one limit of bytes, whether one unit is read or several are.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

MAX_REQUESTS = 128
"""Requests of a process in flight."""
MAX_AHEAD_BYTES = 128 << 20
"""Bytes that the readers of a process are ahead, divided evenly between those that read at the same time."""
ASSUMED_BYTES = 1 << 20
"""Size of an object that no listing tells, until a larger one was read."""


@dataclass(slots=True)
class Window:
    """The number of requests that a reader is ahead: learned by one reader, kept for the next.

    Attributes:
        first: requests to begin with, >= 1.
        most: requests at most.
        size: requests now; 0 before the first reader.
    """

    first: int
    most: int
    size: int = 0

    def __post_init__(self) -> None:
        """Begin with the first size."""
        self.size = self.size or self.first

    def grow(self) -> None:
        """Double the window: a reader had to wait."""
        self.size = min(2 * self.size, self.most)


class _Process:
    """The threads of this process and its readers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self.threads = ThreadPoolExecutor(MAX_REQUESTS, thread_name_prefix="requests")

    @property
    def share_bytes(self) -> int:
        """Bytes that one reader may be ahead."""
        return MAX_AHEAD_BYTES // max(1, self._readers)

    def __enter__(self) -> _Process:
        with self._lock:
            self._readers += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._readers -= 1


_process = _Process()


def _begin_anew() -> None:
    """Replace the threads, which a fork does not copy."""
    global _process  # noqa: PLW0603
    _process = _Process()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def in_order(
    function: Callable[[T], R],
    items: Iterable[T],
    window: Window,
    *,
    size_of: Callable[[T], int | None] = lambda _: 0,
) -> Iterator[R]:
    """Call a function that makes requests for each item, several at a time, and yield the results in order.

    Args:
        function: called in threads of the process; its exception is raised in the place of its result.
        items: taken as they are needed.
        window: how many are ahead.
        size_of: returns the bytes of the result of an item; None if they are not known before.
    """
    with _process as process:
        ahead = _Ahead(process, function, iter(items), window, size_of)
        try:
            while ahead.fill():
                if ahead.was_too_short:
                    window.grow()
                    ahead.fill()
                yield ahead.take()
        finally:
            ahead.cancel()


@dataclass(slots=True)
class _Ahead(Generic[T, R]):
    """The requests of one reader.

    Attributes:
        is_full: whether the window is the reason why no more requests were sent.
        has_begun: whether the reader has used a result: the first one takes a round trip, whatever the window.
    """

    process: _Process
    function: Callable[[T], R]
    items: Iterator[T]
    window: Window
    size_of: Callable[[T], int | None]
    waiting: deque[tuple[Future[R], int]] = field(default_factory=deque)
    ahead_bytes: int = 0
    assumed_bytes: int = ASSUMED_BYTES
    is_full: bool = False
    has_begun: bool = False

    def fill(self) -> bool:
        """Send as many requests as there is room for. Returns whether there is a result to wait for."""
        self.is_full = False
        while not self.waiting or self.ahead_bytes < self.process.share_bytes:
            if self.waiting and len(self.waiting) >= self.window.size:
                self.is_full = True
                break
            try:
                self._send(next(self.items))
            except StopIteration:
                break
        return bool(self.waiting)

    def _send(self, item: T) -> None:
        known = self.size_of(item)
        size = self.assumed_bytes if known is None else known
        self.waiting.append((self.process.threads.submit(self.function, item), size))
        self.ahead_bytes += size

    @property
    def was_too_short(self) -> bool:
        """Whether the reader has to wait now, and would not if the window were longer."""
        return self.is_full and self.has_begun and not self.waiting[0][0].done()

    def take(self) -> R:
        """Wait for the next result and return it."""
        future, size = self.waiting.popleft()
        result = future.result()
        self.has_begun = True
        self.ahead_bytes -= size
        if isinstance(result, bytes):
            self.assumed_bytes = max(self.assumed_bytes, len(result))
        return result

    def cancel(self) -> None:
        """Send no more; what is in flight ends by itself."""
        for future, _ in self.waiting:
            future.cancel()
