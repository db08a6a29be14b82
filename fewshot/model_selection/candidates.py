"""Candidates measured on the same held-out images, and which of them to trust.

The best of several held-out accuracies is partly luck. With 24 to 320 images to compare on (three sets of photographs,
4 and 16 shots, three draws), taking it lost 2.1 points of test accuracy against the best fixed method of each; taking
the best likelihood lost 1.8, and the best likelihood among equals 1.4. So there is an order of preference, and the
preferred candidate gives way only to one that is ahead of it for sure: by more than two standard errors of the
difference between the most accurate candidate and it (paired: on the images where the two disagree). That lost 0.4, at
most 1.1; the order comes from the same sets, so that elsewhere it may lose more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from fewshot.calibration.temperature import fit_scaling
from fewshot.evaluation.metrics import negative_log_likelihood

TIE_STANDARD_ERRORS = 2.0
"""Standard errors of the difference within which a candidate counts as equal to the best."""


@dataclass(frozen=True, slots=True)
class CandidateResult:
    """How a candidate did.

    Attributes:
        method: its name.
        accuracy: share of the held-out images labelled right.
        nll: negative log-likelihood after its own calibration, in nats.
        behind: how far its accuracy is behind the most accurate candidate's, >= 0.
        standard_error: of `behind`.
    """

    method: str
    accuracy: float
    nll: float
    behind: float
    standard_error: float


def measure_candidates(logits: Mapping[str, Tensor], labels: Tensor) -> tuple[CandidateResult, ...]:
    """Measure candidates and put them in order.

    Args:
        logits: [n, K] float32 of each candidate, by name, the preferred first; n >= 1.
        labels: [n] int64 in [0, K).

    Returns:
        the one to trust first: those that may be as good as the most accurate in the order given, then the others by
        accuracy.
    """
    hits = {name: (values.argmax(dim=1) == labels).double() for name, values in logits.items()}
    best = max(hits.values(), key=lambda hit: float(hit.mean()))
    found = [_measure(name, values, labels, best - hits[name]) for name, values in logits.items()]
    return tuple(sorted(found, key=lambda candidate: -1.0 if _may_be_best(candidate) else candidate.behind))


def _may_be_best(candidate: CandidateResult) -> bool:
    return candidate.behind <= TIE_STANDARD_ERRORS * candidate.standard_error


def _measure(name: str, logits: Tensor, labels: Tensor, missed: Tensor) -> CandidateResult:
    """`missed` [n] float64: 1 where only the best is right, -1 where only this one is."""
    return CandidateResult(
        method=name,
        accuracy=float((logits.argmax(dim=1) == labels).double().mean()),
        nll=negative_log_likelihood(fit_scaling(logits, labels)(logits), labels),
        behind=float(missed.mean()),
        standard_error=float(missed.std(correction=0)) / len(labels) ** 0.5,
    )
