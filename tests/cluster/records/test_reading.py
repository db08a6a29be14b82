"""How long storage that is down is waited for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.errors import StorageError
from cluster.records import reading
from cluster.records.reading import FIRST_LOOK_S, RETRY, first_look, with_retries


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
