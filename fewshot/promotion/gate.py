"""Promote, reject or wait: what a policy makes of the images on which production and a candidate differ.

Three policies, because certainty is slow: a gain of one point needs some 50 nights with 20 labels each.

* `superior`: promote when it is shown that the candidate is better.
* `not-worse`: promote when it is shown that it is not worse by more than a margin.
* `watchful`: promote unless held-out examples show harm; go back as soon as labels that came later show it.

"Shown" means that the evidence reaches 1 / alpha, see `fewshot.promotion.evidence`: looked at after every label, a
candidate that is not better is promoted with probability alpha at most. A candidate is frozen while its evidence grows.
The candidates that production meets, one after another, share what may go wrong: number k since the last promotion has
alpha_k = 2 alpha / (k (k + 1)), which is alpha for the first one and 2 alpha for all of them together. Every promotion
begins anew. e-LOND (Xu and Ramdas 2024) counts all candidates there ever were instead, which bounds the share of wrong
promotions, but grows so strict in a project that retrains every night for a year (its candidate number 365 needs 3,660
times the stake, even if all before were promoted) that nothing would be promoted any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import binomtest

from fewshot.promotion.evidence import Comparison

Policy = Literal["superior", "not-worse", "watchful"]
POLICIES: tuple[Policy, ...] = ("superior", "not-worse", "watchful")
Decision = Literal["promote", "reject", "hold"]
ALPHA = 0.05
"""Probability of a wrong decision by the first candidate after a promotion."""
HARM_ALPHA = 0.05
"""Level of the one-sided sign test of harm on held-out examples."""


@dataclass(frozen=True, slots=True)
class GateResult:
    """What is to be done, and on what evidence.

    Attributes:
        decision: about the candidate; of a promoted one that is watched, "reject" means to go back.
        log_evidence: for it, natural logarithm.
        log_harm: against it.
        log_needed: what either must reach.
    """

    decision: Decision
    log_evidence: float
    log_harm: float
    log_needed: float


def log_needed(candidate: int, *, alpha: float = ALPHA) -> float:
    """Return the logarithm of the evidence that decides.

    Args:
        candidate: k, 1 for the first candidate since the last promotion.
        alpha: of the first candidate, in (0, 1).

    Raises:
        ValueError: a value is out of its range.
    """
    if candidate < 1 or not 0.0 < alpha < 1.0:
        raise ValueError(f"expected a candidate from 1 and an alpha in (0, 1), got {candidate} and {alpha}")
    return float(np.log(candidate * (candidate + 1) / (2.0 * alpha)))


def decide(comparison: Comparison, *, margin: float = 0.0, candidate: int = 1, alpha: float = ALPHA) -> GateResult:
    """Decide about a candidate by labels that neither it nor production has learned from.

    Args:
        comparison: all such labels since the candidate was frozen.
        margin: 0 for the policy `superior`; by how much a candidate of `not-worse` may be worse, in (0, 1).
        candidate: its number since the last promotion, from 1.
        alpha: of the first candidate.

    Returns:
        promote on evidence for it, reject on evidence that production is better, otherwise hold.
    """
    needed = log_needed(candidate, alpha=alpha)
    evidence, harm = comparison.log_evidence(margin=margin), comparison.log_harm()
    decision: Decision = "promote" if evidence >= needed else "reject" if harm >= needed else "hold"
    return GateResult(decision, evidence, harm, needed)


def watch(comparison: Comparison, *, alpha: float = ALPHA) -> GateResult:
    """Decide whether a promoted classifier stays, by labels that came after its promotion.

    Args:
        comparison: the promoted classifier is the candidate, the former one is production.
        alpha: probability of going back from one that is not worse.

    Returns:
        reject to go back to the former one; promote to end the watch, as it is shown to be better; otherwise hold.
    """
    evidence, harm, needed = comparison.log_evidence(), comparison.log_harm(), log_needed(1, alpha=alpha)
    decision: Decision = "reject" if harm >= needed else "promote" if evidence >= needed else "hold"
    return GateResult(decision, evidence, harm, needed)


def shows_harm(better: int, worse: int, *, alpha: float = HARM_ALPHA) -> bool:
    """Return whether held-out examples show that a candidate is worse: a sign test at one look.

    Args:
        better: number of examples on which only the candidate is right.
        worse: number of examples on which only production is right.
        alpha: level of the test.
    """
    return worse > better and binomtest(worse, better + worse, 0.5, alternative="greater").pvalue <= alpha
