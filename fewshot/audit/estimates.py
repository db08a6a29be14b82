"""Means and ratios of a whole archive from a stratified sample, with intervals for a number of rows that was fixed.

The mean (PPI++, Angelopoulos, Duchi, Zrnic 2023, arXiv 2311.01453, in strata): the mean of the values, corrected by the
difference between the known mean score of all rows and that of the sample, times a slope. Each half of the sample is
corrected with the slope that the other half shows, and compared with the mean score of the rows that are not in that
other half, so that the estimate is unbiased whatever the scores are: exactly, over all samples. Strata have weights
W = rows / all rows, so it is the Hajek estimate with weights 1 / pi.

The paper's factor 1 + n / N in the slope is for labelled rows that are none of the N; here they are, and the error of
the mean of all scores is none.

Intervals: Student's t of the estimated variance with the finite-population factor, n - H degrees of freedom; where
fewer than `FEW` rows have the rarer value, Clopper and Pearson's with the number of rows that would have this variance
(Korn and Graubard 1998, Survey Methodology 24).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fewshot.audit.guesses import Strata, slope_of

FEW = 10.0
"""Rows with the rarer value below which an interval is not taken from a normal distribution."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share of the archive.

    Attributes:
        value: in [0, 1].
        low: lower end of the interval.
        high: upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class _Mean:
    value: float
    variance: float


def estimate_mean(
    value: np.ndarray, score: np.ndarray, stratum: np.ndarray, strata: Strata, *, alpha: float = 0.05
) -> Estimate | None:
    """Estimate the mean value of all rows.

    Args:
        value: [n] float64 in [0, 1], in the order of the draw.
        score: [n] float64, anything that may go with the values; 0 for none.
        stratum: [n] int64 in [0, H).
        strata: of all rows.
        alpha: probability, in (0, 1), that the interval lacks the mean.

    Returns:
        The estimate; None while a stratum of several rows has fewer than two in the sample.
    """
    drawn = np.bincount(stratum, minlength=len(strata.rows))
    if (drawn < np.minimum(strata.rows, 2)).any():
        return None
    found = _corrected_mean(value, score, stratum, strata)
    return _with_interval(found, value, drawn, strata, alpha)


def estimate_ratio(
    part: np.ndarray, whole: np.ndarray, stratum: np.ndarray, strata: Strata, *, alpha: float = 0.05
) -> Estimate | None:
    """Estimate the sum of one value over that of another one, of all rows; the variance is that of the linear part.

    Args:
        part: [n] float64 in [0, 1], no more than `whole`.
        whole: [n] float64 in [0, 1].
        stratum: [n] int64 in [0, H).
        strata: of all rows.
        alpha: as in `estimate_mean`.

    Returns:
        The estimate; None where the sample has nothing of the whole, or `estimate_mean` gives none.
    """
    drawn = np.bincount(stratum, minlength=len(strata.rows))
    if (drawn < np.minimum(strata.rows, 2)).any() or not whole.any():
        return None
    weight = (strata.weights / np.maximum(drawn, 1))[stratum]
    total = float(weight @ whole)
    ratio = float(weight @ part) / total
    residual = (part - ratio * whole) / total
    variance = _variance(residual, stratum, drawn, strata)
    return _with_interval(_Mean(ratio, variance), part[whole > 0], drawn, strata, alpha)


def _corrected_mean(value: np.ndarray, score: np.ndarray, stratum: np.ndarray, strata: Strata) -> _Mean:
    drawn = np.bincount(stratum, minlength=len(strata.rows))
    half = _halves(stratum, len(strata.rows))
    weight = (strata.weights / np.maximum(drawn, 1))[stratum]
    slopes = [_slope(value, score, stratum, half == side, strata) for side in (0, 1)]
    corrected = value.copy()
    for side in (0, 1):
        own, other = half == side, half != side
        slope = slopes[1 - side]
        sums = np.bincount(stratum[other], score[other], minlength=len(strata.rows))
        rows = strata.rows - np.bincount(stratum[other], minlength=len(strata.rows))
        expected = (strata.score_sum - sums) / np.maximum(rows, 1)
        corrected[own] -= slope * (score[own] - expected[stratum[own]])
    return _Mean(float(weight @ corrected), _variance(corrected, stratum, drawn, strata))


def _halves(stratum: np.ndarray, count: int) -> np.ndarray:
    """[n] 0 or 1: the rows of each stratum in turn; strata begin with one and the other, which evens the halves."""
    half = np.zeros(len(stratum), np.int64)
    for index in range(count):
        own = stratum == index
        half[own] = (np.arange(own.sum()) + index) % 2
    return half


def _slope(value: np.ndarray, score: np.ndarray, stratum: np.ndarray, used: np.ndarray, strata: Strata) -> float:
    """The slope of the values on the scores within strata, over the rows that are used."""
    y, f = value[used].copy(), score[used].copy()
    weight = np.sqrt(strata.weights / np.maximum(np.bincount(stratum, minlength=len(strata.rows)), 1))[stratum[used]]
    for index in np.unique(stratum[used]):
        own = stratum[used] == index
        y[own] -= y[own].mean()
        f[own] -= f[own].mean()
    return slope_of(y * weight, f * weight)


def _variance(value: np.ndarray, stratum: np.ndarray, drawn: np.ndarray, strata: Strata) -> float:
    """The variance of the weighted mean of values in strata, without replacement."""
    sums = np.bincount(stratum, value, minlength=len(drawn))
    mean = sums / np.maximum(drawn, 1)
    squares = np.bincount(stratum, (value - mean[stratum]) ** 2, minlength=len(drawn))
    spread = squares / np.maximum(drawn - 1, 1)
    left = 1.0 - drawn / strata.rows
    return float((strata.weights**2 * left * spread / np.maximum(drawn, 1)).sum())


def _with_interval(found: _Mean, value: np.ndarray, drawn: np.ndarray, strata: Strata, alpha: float) -> Estimate:
    """The interval for a mean of values, which are here to be counted."""
    from scipy.stats import t as student

    share, rows = min(max(found.value, 0.0), 1.0), len(value)
    freedom = max(int(drawn.sum()) - int((drawn > 0).sum()), 1)
    complete = (drawn >= strata.rows).all()
    if complete:
        return Estimate(share, share, share)
    if min(value.sum(), (1.0 - value).sum()) >= FEW:
        reach = float(student.ppf(1.0 - alpha / 2, freedom)) * math.sqrt(found.variance)
        return Estimate(share, max(share - reach, 0.0), min(share + reach, 1.0))
    left = 1.0 - float(drawn.sum()) / strata.population
    effective = rows / left
    if found.variance > 0.0 and 0.0 < share < 1.0:
        ratio = student.ppf(1.0 - alpha / 2, max(rows - 1, 1)) / student.ppf(1.0 - alpha / 2, freedom)
        effective = min(effective, share * (1.0 - share) / found.variance * float(ratio) ** 2)
    low, high = exact_interval(share * effective, effective, alpha=alpha)
    return Estimate(share, min(low, share), max(high, share))


def exact_interval(hits: float, rows: float, *, alpha: float) -> tuple[float, float]:
    """Return Clopper and Pearson's interval of a share; numbers need not be whole.

    Args:
        hits: number of hits, in [0, rows].
        rows: number of rows, > 0.
        alpha: probability, in (0, 1), that the interval lacks the share.
    """
    from scipy.special import betaincinv

    low = 0.0 if hits <= 0 else float(betaincinv(hits, rows - hits + 1.0, alpha / 2))
    high = 1.0 if hits >= rows else float(betaincinv(hits + 1.0, rows - hits, 1.0 - alpha / 2))
    return low, high
