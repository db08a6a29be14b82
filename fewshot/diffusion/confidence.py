"""From errors of the noise to probabilities of classes.

The error of the noise, summed over time-steps, is minus a bound of the log-likelihood (Diffusion Classifier, arXiv
2303.16203, equation 4), so its softmax is a posterior of the classes; an overconfident one, as the authors say, which
is why a temperature is fitted on images that nobody learned from. Classes that are beaten early are asked about fewer
time-steps; errors differ more from time-step to time-step than from class to class, so a class is compared with the
winner over those at which both were asked.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fewshot.calibration.temperature import fit_temperature


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
