"""Gaps between the noise errors of an image's classes: probabilities of the classes, and where in time a decision fell.

The noise error, summed over time-steps, is minus a bound of the log-likelihood (Diffusion Classifier, arXiv 2303.16203,
equation 4), so its softmax is a posterior of the classes; an overconfident one, as the authors say, which is why a
temperature is fitted on images that played no part in training. Classes that are dropped early are scored at fewer
time-steps; errors differ more from time-step to time-step than from class to class, so a class is compared with the
winner over the time-steps at which both were scored.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewshot.calibration.temperature import fit_temperature

BINS = 10


@dataclass(frozen=True, slots=True)
class GapsByTime:
    """The gaps of N images in bins of the time axis, for charts.

    Attributes:
        gaps: [N, BINS] float64, mean of the error of the runner-up less that of the winner, over the time-steps at
            which both were scored; positive values favour the winner. 0 where there is no such time-step.
        counts: [N, BINS] int64, number of these time-steps.
    """

    gaps: Tensor
    counts: Tensor


def gaps_by_time(
    errors: Tensor, scored: Tensor, winner: Tensor, runner_up: Tensor, steps: Tensor, *, T: int = 1000
) -> GapsByTime:
    """Return the gap between two classes of each image, in `BINS` bins of equal width over [0, T).

    Args:
        errors: [N, K, n] float; entries that were not scored are not read.
        scored: [N, K, n] bool.
        winner: [N] int64 in [0, K).
        runner_up: [N] int64 in [0, K).
        steps: [n] int64 in [0, T), the time-step of each column.
        T: time-steps of the model.
    """
    rows = torch.arange(len(errors))
    both = scored[rows, winner] & scored[rows, runner_up]
    gap = torch.where(both, errors[rows, runner_up].double() - errors[rows, winner].double(), 0.0)
    bins = steps * BINS // T
    counts = torch.zeros(len(errors), BINS, dtype=torch.int64).index_add_(1, bins, both.long())
    sums = torch.zeros(len(errors), BINS, dtype=torch.float64).index_add_(1, bins, gap)
    return GapsByTime(sums / counts.clamp(min=1), counts)


def relative_gaps(errors: Tensor, scored: Tensor, winner: Tensor) -> Tensor:
    """Return the gap between each class's error and the winner's, as a share of the winner's.

    Args:
        errors: [N, K, n] float; entries that were not scored are not read.
        scored: [N, K, n] bool.
        winner: [N] int64 in [0, K).

    Returns:
        [N, K] float64; 0 for the winner and for a class without a time-step in common with it. Negative where a race
        was decided against a class that was ahead.
    """
    rows = torch.arange(len(errors))
    both = scored & scored[rows, winner][:, None]
    ours = torch.where(both, errors[rows, winner][:, None].double(), 0.0).sum(dim=2)
    theirs = torch.where(both, errors.double(), 0.0).sum(dim=2)
    return torch.where(both.any(dim=2), (theirs - ours) / ours.clamp(min=1e-12), 0.0)


def fit_gap_temperature(gaps: Tensor, present: Tensor, labels: Tensor) -> float:
    """Fit the temperature of `probabilities` to images of known class.

    Args:
        gaps: [N, K] float64, from `relative_gaps`.
        present: [N, K] bool, the classes that an image may be of.
        labels: [N] int64 in [0, K), present ones.

    Returns:
        T > 0, see `fewshot.calibration.temperature.fit_temperature`, in units of the gaps.
    """
    # Gaps are small, and the fit searches near 1.
    unit = float(gaps[present].abs().sum()) / max(1, int(present.sum())) or 1.0
    return unit * fit_temperature((-gaps / unit).float(), labels, present)


def probabilities(gaps: Tensor, present: Tensor, temperature: float) -> Tensor:
    """Return softmax(-gaps / T) over the present classes.

    Args:
        gaps: [N, K] float64, from `relative_gaps`.
        present: [N, K] bool, at least one a row.
        temperature: T > 0.

    Returns:
        [N, K] float64, rows sum to 1; 0 for absent classes.
    """
    return (-gaps / temperature).masked_fill(~present, -torch.inf).softmax(dim=1)
