"""Abstention with a guaranteed maximum error rate among the predictions that do not abstain.

A threshold on the score is chosen on n held-out predictions by a fixed-sequence test (Bauer 1991, Statistics in
Medicine 10; as calibration of a predictor: Angelopoulos et al. 2021, "Learn then Test", arXiv 2110.01052). Candidates
are the k most confident predictions, in ascending order from a first k that depends on n alone (`first_count`: 22 for a
maximum error of 0.1) to n. For each of them the hypothesis H_k, "of predictions with such scores, more than `max_error`
are wrong", is tested with the exact binomial test at the full failure probability delta = 1 - confidence: x errors
among k predictions reject H_k if P(Binomial(k, max_error) <= x) <= delta (Clopper and Pearson 1934). The first test
that does not reject ends the search, and the answer is the largest k before it.

Delta is not divided among the tests. Let k* be the first candidate whose H is true. An answer with too many errors is
k* or larger, so the test of k* must have rejected; if that has at most the probability delta, so has a wrong answer.

It has, if the probability of an error does not rise with the score. The candidate k keeps the scores above u_k, the
(k+1)-th largest one; if equal scores make these fewer than the first k, it is left out. Let u be the supremum of all t
for which more than `max_error` of the predictions above t are wrong; then H_k is true if and only if u_k < u. Let N be
the number of held-out scores of at least u: k* is the first candidate k >= N, hence a function of N and of the scores
below u. Given N and these scores, the N predictions are independent draws from all with a score of at least u, of which
`max_error` or more are wrong, and each prediction below u is wrong with a probability of at least `max_error`. So the
errors that k* keeps are stochastically at least Binomial(kept, max_error), and the test rejects with a probability of
at most delta.

Without that assumption the guarantee still holds given the scores, for the mean probability of an error of the held-out
predictions that are kept (for a confidence above 0.5): the scores then fix hypotheses and order, and of all sums of
independent errors with a given mean the binomial one is the most spread (Hoeffding 1956).

Selection with guaranteed risk (Geifman and El-Yaniv 2017, arXiv 1705.08500) divides delta among its candidates: with
ten of them, a maximum error of 0.1 takes 44 held-out predictions without an error instead of 22.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewshot.errors import DataError

ABSTAIN_ALWAYS = 2.0
"""A threshold above every probability: all predictions abstain."""
ROUNDING = 1e-9
"""Relative tolerance of the test, so that rounding of `1 - confidence` does not ask for another example."""
LEAST_COVERAGE = 0.1
"""Least share of the held-out predictions that a search for a threshold begins with."""


@dataclass(frozen=True, slots=True)
class Guarantee:
    """A threshold and what it guarantees.

    Attributes:
        threshold: predictions with a lower score abstain, and those without a score (NaN); None: no maximum was given.
        error_bound: upper bound of the error rate at or above the threshold; None if no threshold is valid.
        coverage: share of the held-out predictions that do not abstain, in [0, 1].
    """

    threshold: float | None
    error_bound: float | None
    coverage: float


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutScores:
    """Scores of held-out predictions: what a threshold for any `max_error` is chosen on, without another training.

    Attributes:
        scores: [n] float32, calibrated probabilities of the predicted classes; NaN for none.
        correct: [n] bool, whether the predicted class is the true one.
    """

    scores: np.ndarray
    correct: np.ndarray

    def __eq__(self, other: object) -> bool:
        """Whether the other has the same scores and hits."""
        if not isinstance(other, HeldOutScores):
            return NotImplemented
        same_scores = np.array_equal(self.scores, other.scores, equal_nan=True)
        return same_scores and np.array_equal(self.correct, other.correct)

    __hash__ = None  # type: ignore[assignment]

    def guarantee(self, max_error: float | None, *, confidence: float) -> Guarantee:
        """Return the lowest threshold that guarantees an error rate; see `guaranteed_threshold`.

        Args:
            max_error: maximum error rate, in (0, 1); None keeps every prediction, and only bounds its error rate.
            confidence: probability with which the bound holds, in (0, 1).

        Raises:
            DataError: an argument is out of range.
        """
        check_error_limits(max_error, confidence)
        if max_error is not None:
            return guaranteed_threshold(self.scores, self.correct, max_error=max_error, confidence=confidence)
        images = len(self.scores)
        errors = images - int(self.correct.sum())
        bound = error_upper_bound(errors, images, delta=1.0 - confidence) if images else None
        return Guarantee(None, bound, 1.0 if images else 0.0)


def check_error_limits(max_error: float | None, confidence: float) -> None:
    """Check the ranges of a maximum error rate and of the confidence that it holds with.

    Raises:
        DataError: one of them is not in (0, 1); `max_error` may be None.
    """
    if max_error is not None and not 0.0 < max_error < 1.0:
        raise DataError(f"max_error must lie in (0, 1), got {max_error!r}")
    if not 0.0 < confidence < 1.0:
        raise DataError(f"confidence must lie in (0, 1), got {confidence!r}")


def guaranteed_threshold(scores: np.ndarray, correct: np.ndarray, *, max_error: float, confidence: float) -> Guarantee:
    """Return the lowest tested threshold that guarantees an error rate of at most `max_error` at or above it.

    Few images guarantee little: an error rate below 10 % takes 22 without an error, one below 5 % takes 45, at 90 %
    confidence (`fewest_images`). Equal scores are kept or abstain together.

    Args:
        scores: [n] float32, confidences of held-out images; NaN abstains.
        correct: [n] bool, whether their predictions are correct.
        max_error: maximum error rate, in (0, 1).
        confidence: probability, over the draw of the held-out images, that the guarantee holds; in (0, 1).

    Returns:
        The guarantee; its threshold is `ABSTAIN_ALWAYS` if the first test fails, or if there is none.
    """
    has_score = ~np.isnan(scores)
    order = np.argsort(-scores[has_score], kind="stable")
    descending, hits = scores[has_score][order], correct[has_score][order]
    kept = _kept(descending, hits, max_error=max_error, confidence=confidence)
    if not kept:
        return Guarantee(ABSTAIN_ALWAYS, None, 0.0)
    bound = error_upper_bound(kept - int(hits[:kept].sum()), kept, delta=1.0 - confidence)
    return Guarantee(float(descending[kept - 1]), min(bound, max_error), kept / len(scores))


def _kept(descending: np.ndarray, correct: np.ndarray, *, max_error: float, confidence: float) -> int:
    """Return how many of the largest scores pass the search; 0 if none. Equal scores are one step of it."""
    counts = np.arange(first_count(len(descending), max_error=max_error, confidence=confidence), len(descending) + 1)
    ends = np.append(descending[:-1] > descending[1:], True)
    counts = counts[ends[counts - 1]]
    rejects = shows((~correct).cumsum()[counts - 1], counts, max_error=max_error, confidence=confidence)
    passed = counts[np.logical_and.accumulate(rejects)]
    return int(passed[-1]) if len(passed) else 0


def shows(errors: Any, images: Any, *, max_error: float, confidence: float) -> np.ndarray:
    """Return whether so many errors show that the error rate is at most `max_error`.

    Args:
        errors: [...] int, numbers of wrong predictions, in [0, images].
        images: [...] int, numbers of predictions, >= 1.
        max_error: in (0, 1).
        confidence: in (0, 1).

    Returns:
        [...] bool.
    """
    from scipy.special import bdtr

    return np.asarray(bdtr(errors, images, max_error) <= (1.0 - confidence) * (1.0 + ROUNDING))


def fewest_images(max_error: float, *, confidence: float) -> int:
    """Return how many held-out images, all labelled right, show an error rate: 22 for 0.1 at a confidence of 0.9.

    Args:
        max_error: in (0, 1).
        confidence: in (0, 1).

    Returns:
        The least k with (1 - max_error)^k <= 1 - confidence, at least 1.
    """
    images = max(1, math.ceil(math.log(1.0 - confidence) / math.log1p(-max_error) - ROUNDING))
    return images if shows(0, images, max_error=max_error, confidence=confidence) else images + 1


def least_error(images: int, *, confidence: float) -> float | None:
    """Return the least error rate that so many held-out images can show, None if there are none.

    Args:
        images: number of held-out images, >= 0.
        confidence: in (0, 1).

    Returns:
        1 - (1 - confidence)^(1 / images), in (0, 1).
    """
    return 1.0 - (1.0 - confidence) ** (1.0 / images) if images else None


def error_upper_bound(errors: int, images: int, *, delta: float) -> float:
    """Return the Clopper-Pearson bound: the error rate at which at most so many errors have probability `delta`.

    Args:
        errors: number of wrong predictions, in [0, images].
        images: number of predictions.
        delta: one minus the confidence of the bound, in (0, 1).
    """
    from scipy.special import betaincinv

    return 1.0 if errors == images else float(betaincinv(errors + 1, images - errors, 1.0 - delta))


def first_count(images: int, *, max_error: float, confidence: float) -> int:
    """Return how many of the most confident held-out images a search for a threshold tests first.

    As few as can succeed at all, but not less than a tenth: among thousands of images, a single wrong label among the
    22 most confident ones would end the search at a useless coverage.

    Args:
        images: number of held-out images.
        max_error: in (0, 1).
        confidence: in (0, 1).

    Returns:
        A number >= 1; more than `images` if these are too few to show `max_error`.
    """
    return max(fewest_images(max_error, confidence=confidence), math.ceil(LEAST_COVERAGE * images))
