"""Busy time adds up over threads; active time counts once however many units a worker has."""

from itertools import count

from ray_jobs.steps.stage_meter import ACTIVE, StageMeter


def test_seconds_are_added_by_stage_and_taken_once():
    ticks = count()
    meter = StageMeter(lambda: float(next(ticks)))
    with meter.measured("decoding"):
        pass
    meter.add("decoding", 2.0)
    assert meter.take() == {"decoding": 3.0}
    assert meter.take() == {}


def test_only_the_time_until_an_item_comes_is_waited_for():
    now = 0.0
    meter = StageMeter(lambda: now)

    def items():
        nonlocal now
        for item in "ab":
            now += 1.0
            yield item

    for _ in meter.waits("reading", items()):
        now += 10.0
    assert meter.take() == {"reading": 2.0}


def test_units_at_the_same_time_are_active_once():
    now = 0.0
    meter = StageMeter(lambda: now)
    with meter.unit():
        now = 1.0
        with meter.unit():
            now = 3.0
            assert meter.take() == {ACTIVE: 3.0}
            now = 4.0
        now = 6.0
    now = 9.0
    assert meter.take() == {ACTIVE: 3.0}
