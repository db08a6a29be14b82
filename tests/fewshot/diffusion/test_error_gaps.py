"""At which time-steps a decision fell."""

import pytest
import torch

from fewshot.diffusion.error_gaps import BINS, gaps_by_time


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


def test_what_was_not_asked_of_both_is_not_counted_and_gives_no_nan():
    errors, steps = torch.full((1, 2, 4), torch.nan), torch.tensor([50, 60, 150, 950])
    errors[0, :, 0], errors[0, 0, 1] = torch.tensor([1.0, 3.0]), 5.0
    asked = ~errors.isnan()
    found = gaps_by_time(errors, asked, torch.tensor([0]), torch.tensor([1]), steps)
    assert found.gaps.tolist() == [[2.0, *[0.0] * (BINS - 1)]]
    assert found.counts.tolist() == [[1, *[0] * (BINS - 1)]]
