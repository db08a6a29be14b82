"""What label sets take: examples, pairs and time; and how they are counted."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot.conformal import rejected_ranks
from ray_jobs.classification.label_set_counts import LabelSetCounts
from ray_jobs.classification.label_set_plan import (
    MAX_PAIRS,
    ONE_EXAMPLE,
    check_pairs,
    fewest_examples,
    is_long,
    label_set_plan,
    warnings_about_label_sets,
)
from ray_jobs.errors import JobError
from ray_jobs.output.predictions import LABEL_SET
from ray_jobs.report.label_set_words import planned
from ray_jobs.results.label_sets import LabelSetPlan


@settings(max_examples=200, deadline=None)
@given(st.floats(1e-6, 0.999))
def test_the_fewest_examples_are_those_that_reject_a_rank(error):
    needed = fewest_examples(error)
    assert rejected_ranks(needed, share=error) >= 1
    assert needed == 0 or rejected_ranks(needed - 1, share=error) == 0


def test_the_inverse_of_a_whole_number_takes_one_example_fewer():
    """Though 1 / (1 / 49) is above 49, and 49 * (1 / 49) below 1."""
    assert [fewest_examples(1 / whole) for whole in range(2, 1000)] == [*range(1, 999)]


@pytest.mark.parametrize(("error", "needed"), [(0.5, 1), (0.3, 3), (0.1, 9), (0.05, 19), (0.01, 99)])
def test_usual_errors_take_known_numbers_of_examples(error, needed):
    assert fewest_examples(error) == needed


def test_as_many_pairs_as_fit_are_allowed():
    check_pairs(examples=16_000, classes=1_000)
    check_pairs(examples=MAX_PAIRS, classes=1)


@pytest.mark.parametrize(
    ("examples", "classes", "advice"),
    [
        (40_000, 1_000, "set support.shots = 33"),
        (10_000, 10_000, "label sets cannot be had for so many classes"),
        (0, 3, "there are class names alone"),
    ],
)
def test_too_many_pairs_and_no_example_are_refused(examples, classes, advice):
    with pytest.raises(JobError, match=advice):
        check_pairs(examples=examples, classes=classes)


def test_time_grows_with_images_and_pairs():
    hours = label_set_plan(0.1, examples=16_000, classes=1_000, images=1_000_000).cpu_hours
    assert hours == pytest.approx(16_000 * 1_000 * 1e6 * 2e-8 / 3600)
    assert label_set_plan(0.1, examples=8_000, classes=1_000, images=1_000_000).cpu_hours == pytest.approx(hours / 2)


def test_sets_of_all_classes_take_no_time_and_unknown_archives_an_unknown_time():
    assert label_set_plan(0.1, examples=8, classes=3, images=10**6).cpu_hours == 0.0
    assert label_set_plan(0.1, examples=9, classes=3, images=10**6).cpu_hours > 0.0
    assert label_set_plan(0.1, examples=9, classes=3, images=None).cpu_hours is None


@pytest.mark.parametrize(
    ("hours", "words"),
    [
        (2e-6, "; the sets of all images take less than a minute of a CPU"),
        (0.2, "; the sets of all images take about 12 min of a CPU"),
        (90.0, "; the sets of all images take about 90.0 hours of a CPU"),
        (None, ""),
    ],
)
def test_a_plan_tells_the_time_in_a_fitting_unit(hours, words):
    plan = LabelSetPlan(label_set_error=0.1, examples=24, needed=9, cpu_hours=hours)
    assert planned(plan) == f"label_set_error = 0.1 takes at least 9 examples, and there are 24{words}"


def test_long_ones_are_made_by_workers():
    assert is_long(label_set_plan(0.1, examples=16_000, classes=1_000, images=1_000))
    assert not is_long(label_set_plan(0.1, examples=40, classes=10, images=100_000))
    assert not is_long(None)


def test_too_few_examples_and_single_ones_are_told():
    few = label_set_plan(0.1, examples=8, classes=4, images=10)
    assert not few.is_reachable
    (told,) = warnings_about_label_sets(few, {"a": 2, "b": 2, "c": 2, "d": 2})
    assert "takes at least 9 examples, and there are 8: every label set would have all classes" in told
    assert told.endswith("Add examples, or raise label_set_error to 0.12.")
    (none,) = warnings_about_label_sets(label_set_plan(0.1, examples=0, classes=4, images=10), {})
    assert none.endswith("every prediction would be abstained. Add examples.")
    (lonely,) = warnings_about_label_sets(
        label_set_plan(0.1, examples=9, classes=9, images=10), dict.fromkeys("abc", 1)
    )
    assert lonely == ONE_EXAMPLE
    assert warnings_about_label_sets(label_set_plan(0.1, examples=18, classes=9, images=10), {"a": 2, "b": 0}) == []


def test_the_label_of_an_image_is_found_by_its_plain_path():
    part = pa.table(
        {
            "image": ["./a.jpg", "b.jpg", "c.jpg", "d.jpg"],
            "status": ["ok", "abstained", "abstained", "unreadable"],
            LABEL_SET.name: pa.array([["cat"], ["cat", "dog"], [], None], LABEL_SET.type),
        }
    )
    counts = LabelSetCounts(["cat", "dog"], {"a.jpg": 0, "b.jpg": 1, "c.jpg": -1, "d.jpg": 0}, examples=4)
    counts.add(part)
    found = counts.summary(0.3)
    assert (found.images, found.mean_size, found.single, found.labelled) == (3, 1.0, 1, 1)
    assert (found.empty, found.full, found.known, found.containing) == (1, 1, 2, 1.0)


def test_many_hours_are_told():
    (told,) = warnings_about_label_sets(label_set_plan(0.1, examples=16_000, classes=1_000, images=10**6), {"a": 16})
    assert told.startswith("label sets take about 89 CPU-hours")
