import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewshot.evaluation.metrics import Tally, correct_rows, expected_calibration_error, negative_log_likelihood


def tally(rows, **options):
    labels, predicted, confidence = (torch.tensor(column) for column in zip(*rows, strict=True))
    return Tally.from_predictions(labels, predicted, confidence.float(), num_classes=3, **options)


ROWS = [(0, 0, 0.95), (0, 1, 0.45), (1, 1, 0.85), (1, 1, 0.75), (0, 0, 0.65)]
rows = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.floats(0, 1, width=16)), min_size=1, max_size=20)


def test_measures_match_a_computation_by_hand():
    counted = tally(ROWS, abstained=torch.tensor([False, True, False, False, True]))
    assert counted.rows == 5
    assert counted.accuracy == pytest.approx(4 / 5)
    assert counted.per_class_accuracy[:2].tolist() == pytest.approx([2 / 3, 1.0])
    assert math.isnan(counted.per_class_accuracy[2])
    assert counted.macro_f1 == pytest.approx((4 / 5 + 4 / 5) / 2)
    assert counted.coverage == pytest.approx(3 / 5)
    assert counted.selective_accuracy == 1.0
    assert counted.ece == pytest.approx((0.05 + 0.45 + 0.15 + 0.25 + 0.35) / 5)


@given(left=rows, right=rows)
def test_tallies_of_parts_sum_to_the_whole(left, right):
    merged, whole = (tally(left) + tally(right)).to_json(), tally(left + right).to_json()
    assert merged.pop("bin_confidence") == pytest.approx(whole.pop("bin_confidence"))
    assert merged == whole


@given(some=rows)
def test_a_tally_survives_a_json_round_trip(some):
    values = tally(some).to_json()
    assert Tally.from_json(json.loads(json.dumps(values))).to_json() == values


def test_an_empty_tally_has_no_accuracy():
    empty = torch.zeros(0, dtype=torch.int64)
    assert math.isnan(Tally.from_predictions(empty, empty, torch.zeros(0), num_classes=2).accuracy)


def test_confidence_equal_to_accuracy_has_no_calibration_error():
    correct = torch.tensor([True, True, True, False] * 10)
    assert expected_calibration_error(torch.full((40,), 0.75), correct) == pytest.approx(0.0)
    assert expected_calibration_error(torch.ones(40), correct) == pytest.approx(0.25)


def test_rows_without_confidence_count_for_accuracy_only():
    unsure = tally([*ROWS, (2, 2, math.nan), (2, 0, math.nan)])
    assert (unsure.rows, unsure.accuracy) == (7, pytest.approx(5 / 7))
    assert unsure.ece == pytest.approx(tally(ROWS).ece)
    assert int(unsure.bin_rows.sum()) == 5
    assert math.isnan(tally([(0, 0, math.nan)]).ece)


def test_calibration_is_measured_in_fifteen_bins():
    """0.68 and 0.72 lie in the eleventh of fifteen bins, and would lie in two of ten."""
    right_and_wrong = torch.tensor([True, False])
    error = expected_calibration_error(torch.tensor([0.68, 0.72]), right_and_wrong)
    assert error == pytest.approx(abs(0.68 + 0.72 - 1.0) / 2)


def test_a_row_with_a_largest_logit_that_is_no_number_is_never_correct():
    logits = torch.tensor([[2.0, 1.0], [math.inf, 1.0], [math.nan, 1.0], [1.0, math.nan]])
    assert correct_rows(logits, torch.zeros(4, dtype=torch.int64)).tolist() == [True, False, False, False]


def test_negative_log_likelihood_equals_cross_entropy():
    logits, labels = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 4
    expected = float(torch.nn.functional.cross_entropy(logits, labels))
    assert negative_log_likelihood(logits, labels) == pytest.approx(expected, rel=1e-5)
