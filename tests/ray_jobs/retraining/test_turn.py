"""What a turn decides: the watch, a frozen candidate, one that need not wait, refused labels."""

from __future__ import annotations

import numpy as np
import pytest

from fewshot.promotion import Comparison, NewLabels, Policy
from ray_jobs.registry.registry_state import RegistryState
from ray_jobs.retraining.fresh_labels import LabelComparison
from ray_jobs.retraining.label_nights import Night
from ray_jobs.retraining.turn import (
    Rules,
    decide_by_held_back,
    decide_frozen,
    decide_nights,
    decide_watch,
)

STATE = RegistryState(candidates=1)


def compared(better: int = 0, worse: int = 0, same: int = 0, label: str = "") -> LabelComparison:
    """Images of one class, or each of a class of its own where none is given."""
    gains = np.array([1] * better + [-1] * worse + [0] * same)
    labels = tuple(label or f"class {number}" for number in range(len(gains)))
    return LabelComparison(labels, Comparison(gains))


@pytest.mark.parametrize(
    ("found", "step"),
    [
        (compared(same=499), "hold"),
        (compared(same=500), "confirm"),
        (compared(better=12), "confirm"),
        (compared(worse=12), "roll back"),
        (compared(better=40, worse=40, same=500), "confirm"),
    ],
)
def test_a_watch_ends_with_evidence_or_with_enough_labels_of_the_version_itself(found, step) -> None:
    decision, chain = decide_watch(found, None, Rules())
    assert (decision.step, chain) == (step, None)
    assert decision.compared is found


def test_a_chain_goes_back_but_is_never_confirmed_by_older_labels() -> None:
    own, chain = decide_watch(compared(same=3), compared(same=900), Rules())
    assert (own.step, chain and chain.step) == ("hold", "hold")
    own, chain = decide_watch(compared(same=3), compared(better=30), Rules())
    assert (own.step, chain and chain.step) == ("hold", "hold")
    own, chain = decide_watch(compared(same=3), compared(worse=30), Rules())
    assert (own.step, chain and chain.step) == ("hold", "roll back")


def test_two_comparisons_of_a_watch_share_what_may_go_wrong() -> None:
    alone, _ = decide_watch(compared(), None, Rules(alpha=0.05))
    shared, chain = decide_watch(compared(), compared(), Rules(alpha=0.05))
    assert alone.result is not None
    assert shared.result is not None
    assert chain is not None
    assert chain.result is not None
    assert np.isclose(shared.result.log_needed - alone.result.log_needed, np.log(2.0))
    assert chain.result.log_needed == shared.result.log_needed


def test_a_class_that_falls_takes_a_version_back_though_others_gain() -> None:
    fell, gained = compared(worse=20, label="amber"), compared(better=20, label="blue")
    gains = np.concatenate([fell.comparison.gains, gained.comparison.gains])
    both = LabelComparison((*fell.labels, *gained.labels), Comparison(gains))
    decision, _ = decide_watch(both, None, Rules())
    assert decision.step == "roll back"
    assert "in amber" in decision.why
    assert decide_frozen(both, STATE, Rules("superior")).step == "reject"


@pytest.mark.parametrize(
    ("found", "policy", "step"),
    [
        (compared(better=12), "superior", "promote"),
        (compared(worse=12), "superior", "reject"),
        (compared(better=3, worse=3, same=100), "superior", "hold"),
        (compared(same=400), "superior", "hold"),
        (compared(same=400), "not-worse", "promote"),
        (compared(better=60, worse=60, same=1880), "superior", "reject"),
    ],
)
def test_a_frozen_candidate_is_promoted_rejected_held_or_replaced(found, policy: Policy, step: str) -> None:
    assert decide_frozen(found, STATE, Rules(policy)).step == step


def test_later_candidates_need_more_evidence() -> None:
    found = compared(better=7)
    assert decide_frozen(found, STATE, Rules("superior")).step == "promote"
    assert decide_frozen(found, RegistryState(candidates=9), Rules("superior")).step == "hold"


def test_after_a_rollback_watchful_asks_for_what_not_worse_asks_for() -> None:
    fell_back = RegistryState(candidates=1, fell_back=True)
    assert not Rules("watchful").is_frozen(STATE)
    assert Rules("watchful").is_frozen(fell_back)
    assert Rules("watchful").margin_for(fell_back) == 0.02
    assert Rules("superior").margin_for(fell_back) == 0.0
    assert decide_frozen(compared(same=400), fell_back, Rules("watchful")).step == "promote"


@pytest.mark.parametrize(("worse", "step"), [(3, "promote"), (8, "reject")])
def test_a_candidate_that_need_not_wait_is_promoted_without_harm(worse: int, step: str) -> None:
    decision = decide_by_held_back(compared(worse=worse, same=50), Rules())
    assert (decision.step, decision.basis) == (step, "held-back examples")
    assert f"0 better, {worse} worse of {50 + worse} held-back examples" in decision.why


def test_new_classes_are_told() -> None:
    assert decide_by_held_back(compared(same=5), Rules(), ("gold",)).why.startswith("gold: new, and not waiting")


def test_refused_nights_are_told_with_their_classes() -> None:
    nights = [
        Night({}, NewLabels(20, 4, 18.6, True, ("amber", "blue"))),
        Night({}, NewLabels(10, 1, 9.5, True, ("blue", "cyan"))),
    ]
    decision = decide_nights(nights)
    assert decision.step == "refuse"
    assert decision.why == (
        "production agrees with 5 of 30 new labels, and expected 28; look at the labels of amber, blue, cyan"
    )
