"""Gaps between errors become charts by time-step, and probabilities that are calibrated."""

from __future__ import annotations

import pytest
import torch

from fewshot.calibration.temperature import fit_temperature
from fewshot.diffusion.error_gaps import BINS, fit_gap_temperature, gaps_by_time, probabilities, relative_gaps


def test_gaps_are_the_means_of_each_bin():
    generator = torch.Generator().manual_seed(0)
    errors, steps = torch.rand(3, 4, 50, generator=generator), torch.arange(10, 1000, 20)
    winner, runner_up = torch.tensor([0, 1, 3]), torch.tensor([2, 3, 0])
    found = gaps_by_time(errors, torch.ones(3, 4, 50, dtype=torch.bool), winner, runner_up, steps)
    for i in range(3):
        for b in range(BINS):
            of_bin = errors[i, :, steps // 100 == b].double()
            expected = (of_bin[runner_up[i]] - of_bin[winner[i]]).mean()
            assert float(found.gaps[i, b]) == pytest.approx(float(expected), rel=1e-9)
    assert (found.counts == 5).all()


def test_entries_not_scored_for_both_classes_are_ignored():
    errors, steps = torch.full((1, 2, 4), torch.nan), torch.tensor([50, 60, 150, 950])
    errors[0, :, 0], errors[0, 0, 1] = torch.tensor([1.0, 3.0]), 5.0
    scored = ~errors.isnan()
    found = gaps_by_time(errors, scored, torch.tensor([0]), torch.tensor([1]), steps)
    assert found.gaps.tolist() == [[2.0, *[0.0] * (BINS - 1)]]
    assert found.counts.tolist() == [[1, *[0] * (BINS - 1)]]


def draw_errors(N=400, K=4, n=12, seed=0):
    """Errors whose level differs far more from time-step to time-step than from class to class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(K, (N,), generator=generator)
    level = torch.linspace(0.05, 1.0, n)
    errors = level * (1.0 + 0.05 * torch.randn(N, K, n, generator=generator))
    errors[torch.arange(N), labels] -= 0.01 * level
    return errors, labels


def test_relative_gaps_match_a_calculation_by_hand():
    errors = torch.tensor([[[1.0, 2.0, 9.0], [1.5, 3.0, 9.0], [2.0, 7.0, 7.0]]])
    scored = torch.tensor([[[True, True, False], [True, True, True], [True, False, False]]])
    assert relative_gaps(errors, scored, torch.tensor([0])).tolist() == [pytest.approx([0.0, 0.5, 1.0])]


def test_a_dropped_class_is_compared_over_the_common_time_steps():
    """The mean errors of two classes over different time-steps cannot be compared: they differ far more."""
    errors, _ = draw_errors(N=1)
    all_scored = torch.ones_like(errors, dtype=torch.bool)
    winner = torch.tensor([0])
    early = all_scored.clone()
    early[0, 1, :9] = False  # Only where errors are large.
    full, part = (relative_gaps(errors, scored, winner)[0, 1] for scored in (all_scored, early))
    assert abs(float(full - part)) < 0.1
    assert errors[0, 1, 9:].mean() > 1.5 * errors[0, 1].mean()


def test_a_class_never_scored_beside_the_winner_has_no_gap():
    errors, _ = draw_errors(N=2)
    assert torch.equal(
        relative_gaps(errors, torch.zeros_like(errors, dtype=torch.bool), torch.tensor([0, 1])),
        torch.zeros(2, 4).double(),
    )


def test_scores_with_the_fitted_temperature_are_calibrated():
    errors, labels = draw_errors()
    present = torch.ones(len(labels), 4, dtype=torch.bool)
    winner = errors.mean(dim=2).argmin(dim=1)
    gaps = relative_gaps(errors, torch.ones_like(errors, dtype=torch.bool), winner)
    half = len(labels) // 2
    found = probabilities(gaps[half:], present[half:], fit_gap_temperature(gaps[:half], present[:half], labels[:half]))
    score, right = found.max(dim=1).values, winner[half:] == labels[half:]
    assert 0.4 < right.double().mean() < 0.9
    assert abs(float(score.mean() - right.double().mean())) < 0.08
    sure = score > score.median()
    assert right[sure].double().mean() > right[~sure].double().mean() + 0.1


def test_absent_classes_get_probability_0_and_are_not_fitted():
    errors, labels = draw_errors()
    winner = errors.mean(dim=2).argmin(dim=1)
    gaps = relative_gaps(errors, torch.ones_like(errors, dtype=torch.bool), winner)
    wider = torch.cat([gaps, torch.full((len(gaps), 2), -3.0, dtype=torch.float64)], dim=1)
    present = torch.arange(6).expand(len(gaps), 6) < 4
    temperature = fit_gap_temperature(gaps, present[:, :4], labels)
    assert fit_gap_temperature(wider, present, labels) == pytest.approx(temperature)
    found = probabilities(wider, present, temperature)
    assert torch.equal(found[:, 4:], torch.zeros(len(gaps), 2).double())
    torch.testing.assert_close(found[:, :4], probabilities(gaps, present[:, :4], temperature))
    torch.testing.assert_close(found.sum(dim=1), torch.ones(len(gaps)).double())


def test_few_correct_images_do_not_give_certainty():
    gaps = torch.tensor([[0.0, 0.1], [0.0, 0.2]], dtype=torch.float64)
    present = torch.ones(2, 2, dtype=torch.bool)
    found = probabilities(gaps, present, fit_gap_temperature(gaps, present, torch.tensor([0, 0])))
    assert found[:, 0].max() < 0.95


def test_fitting_without_images_gives_temperature_1():
    nothing = torch.zeros(0, 3)
    assert fit_gap_temperature(nothing.double(), nothing.bool(), torch.zeros(0, dtype=torch.int64)) == 1.0
    assert fit_temperature(nothing, torch.zeros(0, dtype=torch.int64)) == 1.0
