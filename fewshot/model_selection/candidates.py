"""Ranking of candidate methods by their accuracy on the same held-out images, with the one-standard-error rule.

The best of several held-out accuracies is partly luck. So a simpler method is preferred to the most accurate one if it
is behind by at most one standard error of the difference (Breiman et al. 1984, Classification and Regression Trees,
section 3.4.3). The difference is paired: it is made on the images of which one method is right and the other wrong, and
its standard error, with n - 1 in the denominator, is that of the mean of n differences of -1, 0 and 1. One image more
is then one standard error if the two agree otherwise, and never decides alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from fewshot.calibration.temperature import fit_scaling
from fewshot.errors import DataError
from fewshot.evaluation.metrics import negative_log_likelihood

TIE_STANDARD_ERRORS = 1.0
"""A candidate counts as equal to the best if it is behind by at most so many standard errors of the difference."""
ROUNDING = 1e-9
"""What two equal numbers may differ by after rounding."""


@dataclass(frozen=True, slots=True)
class CandidateResult:
    """Held-out results of a candidate.

    Attributes:
        method: name of the candidate.
        accuracy: share of held-out images that are classified correctly, in [0, 1].
        nll: negative log-likelihood after calibration of its logits, in nats.
        behind: difference between the best accuracy and this one, >= 0.
        standard_error: of `behind`; 0 for the best, and of a single image.
    """

    method: str
    accuracy: float
    nll: float
    behind: float
    standard_error: float


def measure_candidates(logits: Mapping[str, Tensor], labels: Tensor) -> tuple[CandidateResult, ...]:
    """Measure candidates and rank them.

    Args:
        logits: name of each candidate to [n, K] float32, the simplest candidate first; n >= 1.
        labels: [n] int64 in [0, K).

    Returns:
        The results, the best choice first: candidates that count as equal to the most accurate one in the given order,
        then the others by accuracy. Candidates with logits that are not finite, whose training diverged, are left out.

    Raises:
        DataError: no candidate has finite logits.
    """
    given, logits = logits, {name: values for name, values in logits.items() if values.isfinite().all()}
    if not logits:
        raise DataError(f"the scores of all candidates ({', '.join(given)}) are not finite numbers")
    hits = {name: (values.argmax(dim=1) == labels).double() for name, values in logits.items()}
    best = max(hits.values(), key=lambda hit: float(hit.mean()))
    results = [_measure(name, values, labels, best - hits[name]) for name, values in logits.items()]
    return tuple(sorted(results, key=lambda result: -1.0 if _may_be_best(result) else result.behind))


def _may_be_best(result: CandidateResult) -> bool:
    return result.behind <= TIE_STANDARD_ERRORS * result.standard_error + ROUNDING


def _measure(name: str, logits: Tensor, labels: Tensor, missed: Tensor) -> CandidateResult:
    """Measure one candidate; `missed` [n] float64 is 1 where only the best is right, -1 where only this one is."""
    return CandidateResult(
        method=name,
        accuracy=float((logits.argmax(dim=1) == labels).double().mean()),
        nll=negative_log_likelihood(fit_scaling(logits, labels)(logits), labels),
        behind=float(missed.mean()),
        standard_error=float(missed.std(correction=1)) / len(labels) ** 0.5 if len(labels) > 1 else 0.0,
    )
