"""How many examples a rate of known images lost takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.conformal import rejected_ranks
from ray_jobs.classification.unknown_plan import UnknownPlan, fewest_examples


@given(rate=st.floats(1e-5, 0.999))
def test_one_example_fewer_than_the_fewest_can_show_nothing(rate):
    fewest = fewest_examples(rate)
    assert rejected_ranks(fewest, share=rate) >= 1
    assert fewest == 0 or rejected_ranks(fewest - 1, share=rate) == 0


def test_the_fewest_examples_of_common_rates():
    assert [fewest_examples(rate) for rate in (0.01, 0.05, 0.1, 0.5)] == [99, 19, 9, 1]


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
