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
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")
R = TypeVar("R")

MAX_REQUESTS = 128
"""Requests of a process in flight."""
MAX_AHEAD_BYTES = 128 << 20
"""Bytes that the readers of a process are ahead, divided evenly between those that read at the same time."""
ASSUMED_BYTES = 1 << 20
"""Size of an object that no listing tells, until a larger one was read by this reader or the last one."""


_closed: ContextVar[threading.Event | None] = ContextVar("closed", default=None)
"""Set when the reader that a request belongs to is closed."""


def pause(seconds: float) -> None:
    """Wait between two attempts of a request. Python waits at its end for all threads, so this ends with the reader.

    Raises:
        CancelledError: the reader of the request is closed.
    """
    closed = _closed.get()
    if closed is None:
        time.sleep(seconds)
    elif closed.wait(seconds):
        raise CancelledError


@dataclass(slots=True)
class Window:
    """The number of requests that a reader is ahead: learned by one reader, kept for the next.

    Attributes:
        first: requests to begin with, >= 1.
        most: requests at most.
        size: requests now.
        largest_bytes: of the results of the last reader, if no listing told their sizes.
    """

    first: int
    most: int
    size: int = field(init=False)
    largest_bytes: int = field(default=ASSUMED_BYTES, init=False)

    def __post_init__(self) -> None:
        """Begin with the first size."""
        self.size = self.first

    def grow(self) -> None:
        """Double the window: a reader had to wait."""
        self.size = min(2 * self.size, self.most)


class _Process:
    """The threads of this process and its readers."""

    def __init__(self) -> None:
        self._readers: WeakSet[Any] = WeakSet()
        self._lock = threading.Lock()
        self.share_bytes = MAX_AHEAD_BYTES
        self.threads = ThreadPoolExecutor(MAX_REQUESTS, thread_name_prefix="requests")

    def add_reader(self, reader: object) -> None:
        """Count a reader, until it is removed or lost."""
        with self._lock:
            self._readers.add(reader)
            self.share_bytes = MAX_AHEAD_BYTES // len(self._readers)

    def remove_reader(self, reader: object) -> None:
        """Give its share to the others."""
        with self._lock:
            self._readers.discard(reader)
            self.share_bytes = MAX_AHEAD_BYTES // max(1, len(self._readers))


_process = _Process()


def _begin_anew() -> None:
    """Replace the threads, which a fork does not copy."""
    global _process
    _process = _Process()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def in_order(
    function: Callable[[T], R],
    items: Iterable[T],
    window: Window,
    *,
    size_of: Callable[[T], int | None] = lambda _: 0,
    length_of: Callable[[R], int] = lambda _: 0,
) -> Iterator[R]:
    """Call a function that makes requests for each item, several at a time, and yield the results in order.

    Args:
        function: called in threads of the process; its exception is raised in the place of its result.
        items: taken as they are needed.
        window: how many are ahead.
        size_of: returns the bytes of the result of an item; None if they are not known before.
        length_of: returns the bytes of a result, where they were not known before.
    """
    ahead = Ahead(function, items, window, size_of=size_of, length_of=length_of)
    try:
        yield from ahead
    finally:
        ahead.close()


class Ahead(Generic[T, R]):
    """The requests of one reader: an iterator over results, see `in_order`. The first requests are sent at once."""

    def __init__(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        window: Window,
        *,
        size_of: Callable[[T], int | None] = lambda _: 0,
        length_of: Callable[[R], int] = lambda _: 0,
    ) -> None:
        self._process, self._function, self._items = _process, function, iter(items)
        self._window, self._size_of, self._length_of = window, size_of, length_of
        self._waiting: deque[tuple[Future[R], int, bool]] = deque()
        self._ahead_bytes, self._largest_bytes = 0, 0
        self._has_begun, self._closed = False, threading.Event()
        self._process.add_reader(self)
        self._fill()

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:
        """Wait for the next result."""
        is_full = self._fill()
        if not self._waiting:
            self.close()
            raise StopIteration
        if is_full and self._has_begun and not self._waiting[0][0].done():
            self._window.grow()
            self._fill()
        future, size, is_assumed = self._waiting.popleft()
        self._ahead_bytes -= size
        result = future.result()
        self._has_begun = True  # The first result takes a round trip, however many requests are in flight.
        if is_assumed:
            self._largest_bytes = max(self._largest_bytes, self._length_of(result))
        return result

    def close(self) -> None:
        """Send no more requests; those in flight end by themselves, and are not repeated."""
        self._closed.set()
        self._items = iter(())
        self._window.largest_bytes = self._largest_bytes or self._window.largest_bytes
        self._process.remove_reader(self)
        while self._waiting:
            self._waiting.pop()[0].cancel()

    def _fill(self) -> bool:
        """Send as many requests as there is room for. Returns whether only the window keeps it from sending more."""
        while not self._waiting or self._ahead_bytes < self._process.share_bytes:
            if len(self._waiting) >= self._window.size:
                return True
            try:
                self._send(next(self._items))
            except StopIteration:
                return False
        return False

    def _send(self, item: T) -> None:
        known = self._size_of(item)
        size = max(ASSUMED_BYTES, self._window.largest_bytes, self._largest_bytes) if known is None else known
        context = copy_context()  # What the reader has set, such as a deadline, holds in the threads.
        context.run(_closed.set, self._closed)
        self._waiting.append((self._process.threads.submit(context.run, self._function, item), size, known is None))
        self._ahead_bytes += size
