"""At which time-steps a decision fell: the gap of the errors of two classes, in bins of time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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
