"""A sample of the kill points; `make chaos` takes all of them."""

from __future__ import annotations

import pytest

from tests.chaos.kill_points import kill_at_points, spread
from tests.chaos.scenarios import scenarios

POINTS = 3
BESIDE_CLASSIFIER = ("examples.safetensors", "unknown.safetensors")


def test_points_are_spread_from_the_first_call_to_the_last():
    assert spread(3, 5) == [1, 2, 3]
    assert spread(101, 5) == [1, 26, 51, 76, 101]
    assert spread(7, 1) == [1]


@pytest.mark.slow
def test_a_job_killed_before_a_storage_call_ends_with_the_same_bytes(tmp_path):
    for scenario in scenarios(tmp_path / "jobs", images=6, draws=(1,)):
        survivals = kill_at_points(scenario, tmp_path, points=POINTS, processes=1)
        assert [each for each in survivals if not each.is_unharmed] == [], scenario.name
        assert len(survivals) == POINTS


@pytest.mark.slow
def test_a_job_killed_around_the_examples_beside_its_classifier_ends_with_the_same_bytes(tmp_path):
    """Before each is looked for, written and read."""
    jobs = scenarios(tmp_path / "jobs", images=6, draws=(1,))
    (scenario,) = (each for each in jobs if each.name == "classify with unknown images and label sets")
    survivals = kill_at_points(scenario, tmp_path, processes=1, takes=lambda path: path.endswith(BESIDE_CLASSIFIER))
    assert [each for each in survivals if not each.is_unharmed] == []
    assert len(survivals) >= 3 * len(BESIDE_CLASSIFIER)
