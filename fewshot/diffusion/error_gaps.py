"""At which time-steps a decision fell: the gap of the errors of two classes, in bins of time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewshot.calibration.temperature import fit_temperature

BINS = 10


@dataclass(frozen=True, slots=True)
class Gaps:
    """What a person looks at, for N images.

    Attributes:
        gaps: [N, BINS] float64, mean of the error of the runner-up less that of the winner, over the time-steps at
            which both were asked; positive speaks for the winner. 0 where there is none.
        counts: [N, BINS] int64, how many time-steps that are.
    """

    gaps: Tensor
    counts: Tensor


def gaps_by_time(
    errors: Tensor, asked: Tensor, winner: Tensor, runner_up: Tensor, steps: Tensor, *, T: int = 1000
) -> Gaps:
    """The gap between two classes of each image, in `BINS` bins of equal width over [0, T).

    Args:
        errors: [N, K, n] float; what stands where nothing was asked is not read.
        asked: [N, K, n] bool.
        winner: [N] int64 in [0, K).
        runner_up: [N] int64 in [0, K).
        steps: [n] int64 in [0, T), the time-step of each column.
        T: time-steps of the model.
    """
    rows = torch.arange(len(errors))
    both = asked[rows, winner] & asked[rows, runner_up]
    gap = torch.where(both, errors[rows, runner_up].double() - errors[rows, winner].double(), 0.0)
    bins = steps * BINS // T
    counts = torch.zeros(len(errors), BINS, dtype=torch.int64).index_add_(1, bins, both.long())
    sums = torch.zeros(len(errors), BINS, dtype=torch.float64).index_add_(1, bins, gap)
    return Gaps(sums / counts.clamp(min=1), counts)


def relative_gaps(errors: Tensor, asked: Tensor, winner: Tensor) -> Tensor:
    """By how much each class explains an image worse than the winner, as a share of the winner's error.

    Args:
        errors: [N, K, n] float; what stands where nothing was asked is not read.
        asked: [N, K, n] bool.
        winner: [N] int64 in [0, K).

    Returns:
        [N, K] float64; 0 for the winner and for a class that was never asked beside it. Below 0 where a race was
        decided against a class that was ahead.
    """
    rows = torch.arange(len(errors))
    both = asked & asked[rows, winner][:, None]
    ours = torch.where(both, errors[rows, winner][:, None].double(), 0.0).sum(dim=2)
    theirs = torch.where(both, errors.double(), 0.0).sum(dim=2)
    return torch.where(both.any(dim=2), (theirs - ours) / ours.clamp(min=1e-12), 0.0)


def fit_gap_temperature(gaps: Tensor, present: Tensor, labels: Tensor) -> float:
    """The temperature with which probabilities suit images whose class is known.

    Args:
        gaps: [N, K] float64, from `relative_gaps`.
        present: [N, K] bool, which classes an image may be of.
        labels: [N] int64 in [0, K), present ones.

    Returns:
        T > 0, see `fewshot.calibration.temperature.fit_temperature`, in units of the gaps.
    """
    unit = float(gaps[present].abs().sum()) / max(1, int(present.sum())) or 1.0  # Gaps are small; the fit looks near 1.
    return unit * fit_temperature((-gaps / unit).float(), labels, present)


def probabilities(gaps: Tensor, present: Tensor, temperature: float) -> Tensor:
    """softmax(-gaps / T) over the present classes.

    Args:
        gaps: [N, K] float64, from `relative_gaps`.
        present: [N, K] bool, at least one a row.
        temperature: T > 0.

    Returns:
        [N, K] float64, rows sum to 1; 0 for absent classes.
    """
    return (-gaps / temperature).masked_fill(~present, -torch.inf).softmax(dim=1)
