from __future__ import annotations

import os
import threading
import time
from contextlib import nullcontext
from contextvars import ContextVar

import pytest

from cluster.storage import read_ahead
from cluster.storage.read_ahead import Ahead, Window, in_order
from cluster.storage.retry import Retry


class Storage:
    """Storage that responds after some time, and counts its requests in flight."""

    def __init__(self, latency_s: float = 0.0) -> None:
        self.latency_s, self.most, self._now = latency_s, 0, 0
        self._lock = threading.Lock()

    def __call__(self, item: int) -> int:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(self.latency_s)
        with self._lock:
            self._now -= 1
        return item


class Items:
    """Numbers, and how many of them were taken."""

    def __init__(self, count: int) -> None:
        self._left, self.taken = iter(range(count)), 0

    def __iter__(self):
        for item in self._left:
            self.taken += 1
            yield item


def test_results_are_in_order_whatever_takes_longer():
    def request(item):
        time.sleep(0.02 if item % 5 == 0 else 0)
        return item

    assert list(in_order(request, range(50), Window(first=4, most=16))) == list(range(50))
    assert list(in_order(request, [], Window(first=4, most=16))) == []


def test_a_reader_that_waits_gets_more_requests_and_the_next_one_keeps_them():
    storage, window = Storage(latency_s=0.02), Window(first=2, most=32)
    list(in_order(storage, range(200), window))
    assert storage.most > 8
    assert window.size == 32
    again = Items(200)
    reader = in_order(Storage(latency_s=0.02), again, window)
    next(reader)
    reader.close()
    assert again.taken == 32


def test_a_slow_reader_has_few_requests_in_flight():
    storage, window = Storage(latency_s=0.001), Window(first=4, most=64)
    for _ in in_order(storage, range(40), window):
        time.sleep(0.01)
    assert storage.most <= 4
    assert window.size <= 8


def test_a_reader_is_ahead_by_few_bytes(monkeypatch):
    monkeypatch.setattr(read_ahead, "MAX_AHEAD_BYTES", 100)
    monkeypatch.setattr(read_ahead, "_process", read_ahead._Process())
    items = Items(6)
    sizes = {0: 10, 1: 1000, 2: 40, 3: 40, 4: 40, 5: 40}
    reader = Ahead(Storage(), items, Window(first=8, most=8), size_of=sizes.get)
    assert (next(reader), items.taken) == (0, 2)
    assert (next(reader), items.taken) == (1, 2)
    assert (next(reader), items.taken) == (2, 5)
    assert list(reader) == [3, 4, 5]


def test_readers_share_the_bytes(monkeypatch):
    monkeypatch.setattr(read_ahead, "_process", read_ahead._Process())
    process = read_ahead._process
    one, two = (Ahead(Storage(), range(5), Window(first=1, most=1)) for _ in range(2))
    assert process.share_bytes == read_ahead.MAX_AHEAD_BYTES // 2
    one.close()
    list(two)
    assert process.share_bytes == read_ahead.MAX_AHEAD_BYTES


def test_sizes_that_nobody_knows_are_learned(monkeypatch):
    monkeypatch.setattr(read_ahead, "ASSUMED_BYTES", 1)
    monkeypatch.setattr(read_ahead, "MAX_AHEAD_BYTES", 100)
    monkeypatch.setattr(read_ahead, "_process", read_ahead._Process())
    items = Items(20)
    window = Window(first=4, most=4)
    reader = Ahead(lambda _: b"x" * 60, items, window, size_of=lambda _: None, length_of=len)
    for _ in range(10):
        next(reader)
    assert items.taken <= 10 + 1
    reader.close()
    again = Items(20)
    next(reader := in_order(lambda _: b"x", again, window, size_of=lambda _: None, length_of=len))
    assert again.taken == 2
    reader.close()
    small = Items(20)
    next(reader := in_order(lambda _: b"x", small, window, size_of=lambda _: None, length_of=len))
    assert small.taken == 4
    reader.close()


def test_an_error_is_raised_in_its_place_and_ends_the_reading():
    def request(item):
        if item == 3:
            raise OSError("no")
        return item

    reader, seen = in_order(request, range(1000), Window(first=4, most=8)), []
    with pytest.raises(OSError, match="no"):
        seen.extend(reader)
    assert seen == [0, 1, 2]
    assert list(reader) == []


def test_a_reader_that_stops_sends_no_more_requests():
    items = Items(10_000)
    reader = in_order(Storage(latency_s=0.01), items, Window(first=8, most=8))
    next(reader)
    reader.close()
    assert items.taken == 8
    assert list(reader) == []


@pytest.mark.parametrize("fails", [False, True])
def test_requests_that_wait_for_a_thread_are_never_sent_after_the_end(monkeypatch, fails):
    monkeypatch.setattr(read_ahead, "MAX_REQUESTS", 1)
    monkeypatch.setattr(read_ahead, "_process", read_ahead._Process())
    sent, held = [], threading.Event()

    def request(item):
        sent.append(item)
        if item == 0 and fails:
            raise OSError("no")
        return item == 0 or held.wait()

    reader = in_order(request, range(8), Window(first=8, most=8))
    with pytest.raises(OSError, match="no") if fails else nullcontext():
        next(reader)
    reader.close()
    held.set()
    read_ahead._process.threads.shutdown()
    assert sent in ([0], [0, 1])  # The second one may have begun before.


def test_a_window_is_not_the_limit_where_bytes_are(monkeypatch):
    monkeypatch.setattr(read_ahead, "MAX_AHEAD_BYTES", 100)
    monkeypatch.setattr(read_ahead, "_process", read_ahead._Process())
    window = Window(first=4, most=64)
    assert list(in_order(Storage(latency_s=0.005), range(10), window, size_of=lambda _: 60)) == list(range(10))
    assert window.size == 4


def test_what_a_reader_has_set_holds_in_its_threads():
    name = ContextVar("name", default="none")
    name.set("reader")
    assert list(in_order(lambda _: name.get(), range(3), Window(first=2, most=2))) == ["reader"] * 3


def test_two_readers_in_threads_get_their_own_results():
    window = Window(first=4, most=32)
    results = {}

    def read(start):
        results[start] = list(in_order(Storage(latency_s=0.001), range(start, start + 100), window))

    threads = [threading.Thread(target=read, args=(start,)) for start in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {start: list(range(start, start + 100)) for start in (0, 1000, 2000)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_has_threads_of_its_own():
    assert list(in_order(Storage(), range(10), Window(first=4, most=8))) == list(range(10))
    child = os.fork()
    if child == 0:
        os._exit(list(in_order(Storage(), range(10), Window(first=4, most=8))) != list(range(10)))
    assert os.waitpid(child, 0)[1] == 0


def test_a_closed_reader_ends_the_waits_between_attempts():
    begun, ended = threading.Event(), threading.Event()

    def request(_):
        begun.set()
        try:
            Retry(first_delay_s=60.0, max_delay_s=60.0).call(fail, is_transient=lambda _: True)
        finally:
            ended.set()

    def fail():
        raise OSError("busy")

    reader = Ahead(request, [1], Window(first=1, most=1))
    assert begun.wait(10)
    reader.close()
    assert ended.wait(10)
