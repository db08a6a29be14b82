"""How many examples a rate of known images lost takes, and how images of no class are counted."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.conformal import rejected_ranks
from ray_jobs.classification.unknown_counts import UnknownCounts
from ray_jobs.classification.unknown_plan import UnknownPlan, fewest_examples, plan_unknown
from ray_jobs.errors import JobError
from ray_jobs.job_file.sections import ClassifierSection


@given(rate=st.floats(1e-5, 0.999))
def test_one_example_fewer_than_the_fewest_can_show_nothing(rate):
    fewest = fewest_examples(rate)
    assert rejected_ranks(fewest, share=rate) >= 1
    assert fewest == 0 or rejected_ranks(fewest - 1, share=rate) == 0


def test_the_fewest_examples_of_common_rates():
    assert [fewest_examples(rate) for rate in (0.01, 0.05, 0.1, 0.5)] == [99, 19, 9, 1]


def test_the_inverse_of_a_whole_number_takes_one_example_fewer():
    """Though 49 * (1 / 49) is below 1."""
    assert [fewest_examples(1 / whole) for whole in range(2, 1000)] == [*range(1, 999)]


@given(rate=st.floats(1e-5, 0.999), examples=st.integers(0, 300))
def test_a_plan_tells_what_the_test_may_lose(rate, examples):
    told = UnknownPlan(rate, examples).summary()
    assert told.lost * (examples + 1) == pytest.approx(rejected_ranks(examples, share=rate))
    assert told.is_reachable == (told.lost > 0)
    assert told.lost <= rate + 1e-9


def test_enough_examples_need_no_warning():
    assert UnknownPlan(0.05, 19).warning is None
    assert "needs at least 19 examples, and there are 18" in UnknownPlan(0.05, 18).warning
    assert "raise unknown_rate to 0.06." in UnknownPlan(0.05, 18).warning
    assert "raise" not in UnknownPlan(0.05, 0).warning
    assert "raise unknown_rate to 0.04." in UnknownPlan(0.03, 24).warning


def test_examples_without_one_of_a_class_are_refused():
    section = ClassifierSection(method="gda", unknown=True)
    support = SimpleNamespace(labels=SimpleNamespace(counts={"cat": 20, "dog": 0}), contents=tuple(range(20)))
    with pytest.raises(JobError, match="there is none of dog"):
        plan_unknown(section, support, None)
    support.labels.counts["dog"] = 1
    assert plan_unknown(section, support, None) == UnknownPlan(0.05, 20)


def test_images_that_were_read_are_counted_by_the_label_that_is_given():
    counts = UnknownCounts()
    assert counts.measured is None
    counts.add([(-1, "unknown"), (-1, "ok"), (-1, "unreadable"), (None, "unknown")])
    others = counts.measured
    assert (others.known_images, others.known_lost, others.other_images, others.others_found) == (0, None, 2, 0.5)
    counts.add([(0, "ok"), (2, "unknown"), (1, "abstained"), (1, "ok"), (0, "unreadable")])
    both = counts.measured
    assert (both.known_images, both.known_lost, both.other_images, both.others_found) == (4, 0.25, 2, 0.5)
