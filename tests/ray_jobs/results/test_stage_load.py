"""The busiest stage is the limit; where none is busy, none is."""

import pytest

from ray_jobs.results.stage_load import StageLoad

SECONDS = {"active": 10.0, "reading": 4.0, "decoding": 36.0, "device": 6.1, "writing": 1.0}


def test_seconds_become_shares_of_what_a_stage_could_do():
    load = StageLoad.from_seconds(SECONDS, units_s=20.0, threads=4)
    assert load == StageLoad(reading=0.2, decoding=0.9, device=0.61, writing=0.05)
    assert load.limit == "decoding"
    assert load.sentence() == "embedding was limited by decoding, busy 90% of the time (the model 61%)"


@pytest.mark.parametrize(
    ("changed", "limit", "sentence"),
    [
        ({"device": 9.8}, "device", "embedding was limited by the model, busy 98% of the time"),
        ({"decoding": 1.0, "reading": 19.0}, "reading", "limited by reading images, busy 95% of the time (the model"),
        (
            {"decoding": 1.0, "writing": 30.0},
            "writing",
            "limited by writing features, busy 100% of the time (the model",
        ),
        (
            {"decoding": 20.0, "device": 4.0},
            "decoding",
            "limited by decoding, busy 50% of the time (the model 40%)",
        ),
        (
            {"decoding": 1.0, "device": 4.0},
            None,
            "half of the time (reading images 20%, decoding 2%, the model 40%, writing",
        ),
    ],
)
def test_the_busiest_stage_is_the_limit(changed, limit, sentence):
    load = StageLoad.from_seconds(SECONDS | changed, units_s=20.0, threads=4)
    assert load.limit == limit
    assert sentence in load.sentence()


def test_nothing_is_known_where_nothing_was_embedded():
    assert StageLoad.from_seconds({}, units_s=0.0, threads=4) is None
    assert StageLoad.from_seconds({"writing": 1.0}, units_s=1.0, threads=4) is None


def test_a_single_unit_that_only_waits_for_its_images_is_limited_by_reading():
    busy_s = {"active": 9.0, "reading": 9.0, "decoding": 1.0, "device": 0.5, "writing": 0.5}
    load = StageLoad.from_seconds(busy_s, units_s=9.5, threads=4)  # However many units there was room for.
    assert (load.limit, load.reading) == ("reading", pytest.approx(9 / 9.5))
