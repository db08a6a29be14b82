"""How long storage that is down is waited for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from cluster.errors import StorageError
from cluster.records import reading
from cluster.records.base import Record
from cluster.records.reading import FIRST_LOOK_S, RETRY, first_look, request_ahead, with_retries
from cluster.storage import read_ahead
from cluster.storage.read_ahead import Window


class ThrottledError(OSError):
    status = 429


class Clock:
    """Seconds, which pass while something sleeps."""

    now = 0.0

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(reading, "RETRY", replace(RETRY, clock=lambda: clock.now, sleep=clock.sleep))
    return clock


def fails(error):
    def operation():
        raise error

    return operation


@pytest.mark.parametrize(("error", "least"), [(ConnectionRefusedError("refused"), 0.0), (ThrottledError("slow"), 30.0)])
def test_the_first_look_gives_up_sooner_unless_a_server_limits_requests(clock, error, least):
    with first_look(), pytest.raises(StorageError, match="cannot read photos"):
        with_retries(fails(error), "photos")
    assert least < clock.now <= max(FIRST_LOOK_S, 2 * least)
    clock.now = 0.0
    with pytest.raises(StorageError):
        with_retries(fails(error), "photos")
    assert 30.0 < clock.now <= RETRY.deadline_s


def test_records_of_unknown_size_are_ahead_by_few_bytes(monkeypatch):
    monkeypatch.setattr(reading, "_OTHER_OBJECTS", Window(first=4, most=8))
    monkeypatch.setattr(read_ahead, "MAX_AHEAD_BYTES", 4 * read_ahead.ASSUMED_BYTES)
    monkeypatch.setattr(read_ahead, "_process", read_ahead._Process())
    taken = []

    def items():
        for number in range(20):
            taken.append(number)
            yield Record(f"{number}", bytes(4 * read_ahead.ASSUMED_BYTES), None, "")

    for count, _ in enumerate(request_ahead(lambda record: record, items(), MemoryFileSystem()), 1):
        assert len(taken) <= count + (4 if count < 8 else 1)
