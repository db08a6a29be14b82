"""Simulated projects: a candidate and production meet new labels every night, until one of them wins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fewshot.promotion import Comparison, GateResult, decide, log_evidence_of_counts, log_needed, watch

Rule = Callable[[int, int, int], str]
"""Decides by the number of images for the candidate, the number for production, and the number of all images."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How projects ended.

    Attributes:
        promoted: share of them in which the candidate was promoted, or shown to be better.
        rejected: share of them in which it was rejected, or taken back.
        night: median night of that end, counted from 1; later than the last one where most have no such end.
    """

    promoted: float
    rejected: float
    promotion_night: float
    rejection_night: float


def superior(better: int, worse: int, images: int, *, margin: float = 0.0) -> str:
    """Decide as `decide` does; from counts, which is faster."""
    needed = log_needed(1)
    if log_evidence_of_counts(better, worse, images, margin=margin) >= needed:
        return "promote"
    return "reject" if log_evidence_of_counts(worse, better, images) >= needed else "hold"


def not_worse(better: int, worse: int, images: int) -> str:
    """Decide with a margin of two points."""
    return superior(better, worse, images, margin=0.02)


def decided(better: int, worse: int, images: int) -> GateResult:
    """Return the result of `decide` itself."""
    return decide(comparison(better, worse, images))


def watched(better: int, worse: int, images: int) -> GateResult:
    """Return the result of `watch` itself."""
    return watch(comparison(better, worse, images))


def comparison(better: int, worse: int, images: int) -> Comparison:
    """Return a comparison with such counts."""
    return Comparison(np.repeat([1, -1, 0], [better, worse, images - better - worse]))


def simulate(
    rule: Rule,
    *,
    gain: float,
    labels: int,
    projects: int,
    nights: int = 100,
    disagreement: float = 0.1,
    seed: int = 0,
) -> Outcomes:
    """Let projects run to a decision, or to the last night.

    Args:
        rule: the policy.
        gain: true gain of the candidate in accuracy.
        labels: new ones a night.
        projects: number of them.
        nights: number of them.
        disagreement: share of images on which exactly one of both is right.
        seed: of everything random.
    """
    rng = np.random.default_rng(seed)
    shares = [(disagreement + gain) / 2.0, (disagreement - gain) / 2.0, 1.0 - disagreement]
    counts = rng.multinomial(labels, shares, size=(projects, nights)).cumsum(axis=1)
    ends: dict[str, list[int]] = {"promote": [], "reject": []}
    for project in counts:
        decision, night = _end(rule, project)
        for name, found in ends.items():
            found.append(night if name == decision else nights + 1)
    promotion, rejection = (np.array(ends[name]) for name in ("promote", "reject"))
    return Outcomes(
        float((promotion <= nights).mean()),
        float((rejection <= nights).mean()),
        float(np.median(promotion)),
        float(np.median(rejection)),
    )


def _end(rule: Rule, project: np.ndarray) -> tuple[str, int]:
    for night, (better, worse, _) in enumerate(project.tolist(), 1):
        if (decision := rule(better, worse, int(project[night - 1].sum()))) != "hold":
            return decision, night
    return "hold", len(project)
