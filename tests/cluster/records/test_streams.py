from __future__ import annotations

import errno
import os
import threading
import time
from functools import partial

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import ChangedError
from cluster.records import streams
from cluster.records.base import EntryError
from cluster.records.local_files import FILE_FLAGS
from cluster.records.streams import open_local_stream, open_stream
from cluster.storage import read_ahead
from cluster.storage.read_ahead import Window

BLOCK = 16


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(streams, "BUFFER_BYTES", BLOCK)
    monkeypatch.setattr(streams, "_REMOTE_BUFFER_BYTES", 4)


class Requests:
    """Serves an object, and keeps the parts that were requested."""

    def __init__(self, data: bytes, latency_s: float = 0.0) -> None:
        self.data, self.spans, self._latency_s, self._lock = data, [], latency_s, threading.Lock()

    def fetch(self, filesystem, path, *, start, end, tag):
        time.sleep(self._latency_s)
        with self._lock:
            self.spans.append((start, end))
        return self.data[start:end]

    def open(self, monkeypatch):
        monkeypatch.setattr(streams, "fetch", self.fetch)
        return open_stream(MemoryFileSystem(), "/a", len(self.data), "a", "")


def pairs(ends: set[int]) -> list[tuple[int, int]]:
    ordered = sorted(ends)
    return list(zip(ordered[::2], ordered[1::2], strict=False))


spans = st.sets(st.integers(0, 200), max_size=6).map(pairs)


@given(
    size=st.integers(0, 200),
    announced=st.lists(spans, max_size=3),
    reads=st.lists(st.tuples(st.integers(0, 210), st.integers(0, 70)), max_size=12),
)
def test_any_reads_give_the_bytes_that_are_there(size, announced, reads):
    data = bytes(index % 251 for index in range(size))
    with pytest.MonkeyPatch.context() as patch, Requests(data).open(patch) as stream:
        for each in announced:
            stream.read_ahead([(start, min(stop, size)) for start, stop in each if start < size])
        for position, count in reads:
            stream.seek(position)
            assert stream.read(count) == data[position : position + count]


def test_what_is_announced_is_requested_once_and_in_blocks(monkeypatch):
    requests = Requests(bytes(100))
    with requests.open(monkeypatch) as stream:
        stream.read_ahead([(0, 100)])
        while stream.read(7):
            pass
    assert sorted(requests.spans) == [(0, 16), (16, 32), (32, 48), (48, 64), (64, 80), (80, 96), (96, 100)]


def test_two_parts_are_read_side_by_side(monkeypatch):
    requests = Requests(bytes(range(100)))
    with requests.open(monkeypatch) as stream:
        stream.read_ahead([(0, 40)])
        stream.read_ahead([(60, 100)])
        for position in range(0, 40, 5):
            for start in (position, 60 + position):
                stream.seek(start)
                assert stream.read(5) == requests.data[start : start + 5]
    assert len(requests.spans) == 6


def test_what_is_not_announced_is_requested_in_blocks(monkeypatch):
    requests = Requests(bytes(100))
    with requests.open(monkeypatch) as stream:
        while stream.read(5):
            pass
        stream.seek(90)
        assert len(stream.read()) == 10
    blocks = [(start, min(100, start + BLOCK)) for start in range(0, 100, BLOCK)]
    assert requests.spans == [*blocks, (90, 100)]


@pytest.mark.parametrize(("limit", "most"), [(10 * BLOCK, 4), (2 * BLOCK, 2)])
def test_requests_ahead_are_limited_in_number_and_bytes(monkeypatch, limit, most):
    monkeypatch.setattr(read_ahead, "MAX_AHEAD_BYTES", limit)
    monkeypatch.setattr(streams, "_OTHER_BLOCKS", Window(first=4, most=4))
    requests = Requests(bytes(BLOCK * 100))
    with requests.open(monkeypatch) as stream:
        stream.read_ahead([(0, BLOCK * 100)])
        assert len(stream.read(10 * BLOCK)) == 10 * BLOCK
        time.sleep(0.1)
        assert len(requests.spans) == 9 + most  # The block that is read now is one of them.


def test_s3_takes_more_requests_at_a_time(monkeypatch):
    most = []
    for is_on_s3 in (False, True):
        monkeypatch.setattr(streams, "is_s3", lambda _, is_on_s3=is_on_s3: is_on_s3)
        with Requests(b"").open(monkeypatch) as stream:
            most.append(stream.raw._window.most)
    assert most == [4, 16]


def test_a_request_that_fails_for_a_moment_is_repeated(monkeypatch, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    failures = [OSError(errno.EIO, "input/output error")] * 2

    def open_file():
        if failures:
            raise failures.pop()
        return os.open(path, os.O_RDONLY)

    def fetch(*_, start, end, tag):
        with os.fdopen(open_file(), "rb") as file:
            return file.read()[start:end]

    monkeypatch.setattr(streams, "fetch", fetch)
    with open_stream(MemoryFileSystem(), "/a", 10, "a", "") as stream:
        assert stream.read() == b"0123456789"
    failures.append(OSError(errno.EIO, "input/output error"))
    with open_local_stream(open_file, 10, "a") as stream:
        assert stream.read() == b"0123456789"
    assert failures == []


def test_a_local_file_of_another_size_than_listed_has_changed(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    with open_local_stream(lambda: os.open(path, os.O_RDONLY), 9, "a") as stream, pytest.raises(ChangedError):
        stream.read(1)


def test_a_local_file_of_equal_size_that_changed_between_two_reads_is_refused(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(40))
    raw = open_local_stream(partial(os.open, path, FILE_FLAGS), 40, "a").raw
    assert raw.read(4) == raw.read(4) == bytes(4)
    os.utime(path, ns=(1, 1))
    with pytest.raises(ChangedError):
        raw.read(4)


def test_a_local_file_that_became_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a")
    opener = partial(os.open, tmp_path / "a", FILE_FLAGS)
    with open_local_stream(opener, 9, "a") as stream, pytest.raises(EntryError, match="not a regular file"):
        stream.read(1)


def test_a_closed_stream_requests_nothing_more(monkeypatch):
    requests = Requests(bytes(BLOCK * 1000), latency_s=0.01)
    stream = requests.open(monkeypatch)
    stream.read_ahead([(0, BLOCK * 1000)])
    assert len(stream.read(4)) == 4
    stream.close()
    time.sleep(0.1)
    assert len(requests.spans) <= 2 * streams._OTHER_BLOCKS.most


def test_an_error_ahead_is_raised_where_it_is_read(monkeypatch):
    requests = Requests(bytes(100))

    def fetch(filesystem, path, *, start, end, tag):
        if start >= 48:
            raise FileNotFoundError
        return requests.fetch(filesystem, path, start=start, end=end, tag=tag)

    stream = requests.open(monkeypatch)
    monkeypatch.setattr(streams, "fetch", fetch)
    stream.read_ahead([(0, 100)])
    assert len(stream.read(40)) == 40
    with pytest.raises(EntryError, match="not found"):
        stream.read(40)


def test_a_part_after_one_that_failed_has_its_own_bytes(monkeypatch):
    data = bytes(range(100))
    requests = Requests(data)

    def fetch(filesystem, path, *, start, end, tag):
        if start == 32:
            raise FileNotFoundError
        return requests.fetch(filesystem, path, start=start, end=end, tag=tag)

    stream = requests.open(monkeypatch)
    monkeypatch.setattr(streams, "fetch", fetch)
    stream.read_ahead([(0, 100)])
    assert stream.read(32) == data[:32]
    with pytest.raises(EntryError, match="not found"):
        stream.read(1)
    for start in (36, 20, 48, 30, 90):
        stream.seek(start)
        assert stream.read(2) == data[start : start + 2]


def test_a_server_without_ranges_is_an_error(monkeypatch):
    stream = Requests(bytes(100)).open(monkeypatch)
    monkeypatch.setattr(streams, "fetch", lambda *_, **__: bytes(100))
    for start in (0, 96):
        stream.seek(start)
        with pytest.raises(EntryError, match="does not support range requests"):
            stream.read(4)


def test_a_reader_that_comes_back_to_the_block_before_requests_nothing_again(monkeypatch):
    requests = Requests(bytes(range(100)))
    raw = requests.open(monkeypatch).raw
    raw.read_ahead([(0, 64)])
    found = []
    for start in (12, 16, 15, 0):
        raw.seek(start)
        found.append(raw.read(1))
    assert found == [b"\x0c", b"\x10", b"\x0f", b"\x00"]
    assert len(requests.spans) == len(set(requests.spans))


@pytest.mark.parametrize(("version", "tag"), [('"abc"', '"abc"'), ("2026-11-30", "")])
def test_every_request_asks_for_the_etag_that_was_listed(monkeypatch, version, tag):
    tags = []
    monkeypatch.setattr(streams, "fetch", lambda *_, start, end, tag: tags.append(tag) or bytes(end - start))
    with open_stream(MemoryFileSystem(), "/a", 40, "a", version) as stream:
        stream.read_ahead([(0, 20)])
        stream.read()
    assert tags == [tag] * 4


def test_a_place_before_the_beginning_is_the_beginning(monkeypatch):
    raw = Requests(b"abc").open(monkeypatch).raw
    assert (raw.seek(-22, os.SEEK_END), raw.read(2)) == (0, b"ab")
