"""The one-standard-error rule on logits that are right where they are made to be."""

from math import log

import pytest
import torch

from fewshot.errors import DataError
from fewshot.model_selection.candidates import measure_candidates


def logits_with(hits):
    """Two classes, label 0: right where `hits` says so."""
    return torch.stack([torch.tensor(hits, dtype=torch.float32) * 2.0 - 1.0, torch.zeros(len(hits))], dim=1)


def order(labels, **hits):
    return [result.method for result in measure_candidates({n: logits_with(h) for n, h in hits.items()}, labels)]


LABELS = torch.zeros(40, dtype=torch.int64)


def test_a_lead_that_may_be_luck_leaves_the_simpler_in_front():
    simpler = logits_with([1] * 30 + [0] * 10)
    lucky = logits_with([0] * 3 + [1] * 31 + [0] * 6)
    first, second = measure_candidates({"simpler": simpler, "lucky": lucky}, LABELS)
    assert (first.method, second.method) == ("simpler", "lucky")
    assert first.behind == pytest.approx(1 / 40)
    assert first.standard_error == pytest.approx(((7 / 40 - (1 / 40) ** 2) / 39) ** 0.5)
    assert (second.behind, second.standard_error) == (0.0, 0.0)


def test_one_image_never_decides_and_two_without_a_loss_do():
    simpler = [1] * 30 + [0] * 10
    assert order(LABELS, simpler=simpler, better=[1] * 31 + [0] * 9) == ["simpler", "better"]
    assert order(LABELS, simpler=simpler, better=[1] * 32 + [0] * 8) == ["better", "simpler"]


def test_the_limit_is_one_standard_error_of_the_paired_difference():
    """Wins w and losses l: (w - l) <= sqrt(w + l - (w - l)^2 / n) * sqrt(n / (n - 1))."""
    for wins in range(1, 8):
        for losses in range(wins):
            simpler = [1] * losses + [0] * wins + [1] * (40 - wins - losses)
            better = [0] * losses + [1] * (40 - losses)
            lead = wins - losses
            within = lead <= ((wins + losses - lead**2 / 40) * 40 / 39) ** 0.5 + 1e-9
            assert (order(LABELS, simpler=simpler, better=better)[0] == "simpler") is within


def test_all_within_the_limit_are_in_the_given_order_and_the_others_by_accuracy():
    best, equal = [1] * 36 + [0] * 4, [1] * 35 + [0] * 4 + [1]
    ranked = order(LABELS, last=[1] * 10 + [0] * 30, behind=[1] * 20 + [0] * 20, equal=equal, best=best)
    assert ranked == ["equal", "best", "behind", "last"]


def test_likelihood_is_measured_at_each_candidates_own_temperature():
    logits = logits_with([1] * 30 + [0] * 10)
    one, other = measure_candidates({"a": logits, "b": 7.0 * logits}, LABELS)
    assert one.nll == pytest.approx(other.nll, rel=1e-4)
    assert one.nll == pytest.approx(-(0.75 * log(0.75) + 0.25 * log(0.25)), abs=0.01)


def test_a_single_image_has_no_standard_error_and_two_have():
    for images, expected in ((1, 0.0), (2, 0.5)):
        right = logits_with([1] * images)
        wrong = logits_with([0] + [1] * (images - 1))
        by_name = {r.method: r for r in measure_candidates({"wrong": wrong, "right": right}, LABELS[:images])}
        assert by_name["wrong"].behind == 1 / images
        assert by_name["wrong"].standard_error == pytest.approx(expected)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_candidate_that_diverged_is_left_out(number):
    broken = logits_with([1] * 40).index_fill(0, torch.tensor([3]), number)
    assert [r.method for r in measure_candidates({"broken": broken, "right": logits_with([1] * 40)}, LABELS)] == [
        "right"
    ]
    with pytest.raises(DataError, match="broken"):
        measure_candidates({"broken": broken}, LABELS)
