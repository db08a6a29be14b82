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
from tests.ray_jobs.retraining.nightly_promotions import promote_every_night

STATE = RegistryState(candidates=1)


def compared(
    better: int = 0, worse: int = 0, same: int = 0, label: str = "", newer: tuple[int, ...] = ()
) -> LabelComparison:
    """Images of one class, or each of a class of its own where none is given."""
    gains = np.array([1] * better + [-1] * worse + [0] * same)
    labels = tuple(label or f"class {number}" for number in range(len(gains)))
    return LabelComparison(labels, Comparison(gains), 2, newer or (0,) * len(gains))


@pytest.mark.parametrize(
    ("found", "step"),
    [
        (compared(same=1999), "hold"),
        (compared(same=2000), "confirm"),
        (compared(better=12), "confirm"),
        (compared(worse=12), "roll back"),
        (compared(better=40, worse=40, same=1920), "confirm"),
    ],
)
def test_a_watch_ends_with_evidence_or_with_enough_labels_of_the_version_itself(found, step) -> None:
    decision, chain = decide_watch(found, None, Rules())
    assert (decision.step, chain) == (step, None)
    assert decision.compared is found


def test_the_watch_over_the_first_versions_of_a_chain_ends_with_enough_labels_of_them_and_later_ones() -> None:
    rules, places = Rules(watch_labels=500), (0,) * 400 + (1,) * 300 + (2,) * 250
    own, chain = decide_watch(compared(same=250), compared(same=950, newer=places), rules)
    assert (own.step, chain and chain.step) == ("hold", "confirm")
    assert compared(same=950, newer=places).watched_enough(500) == 2
    own, chain = decide_watch(compared(same=3), compared(same=499, newer=(0,) * 496 + (1,) * 3), rules)
    assert (own.step, chain and chain.step) == ("hold", "hold")
    own, chain = decide_watch(compared(same=3), compared(better=30, newer=(0,) * 15 + (1,) * 15), rules)
    assert (own.step, chain and chain.step) == ("hold", "hold")  # Older versions were better, the last is not known.
    own, chain = decide_watch(compared(same=3), compared(worse=30, newer=(0,) * 15 + (1,) * 15), rules)
    assert (own.step, chain and chain.step) == ("hold", "roll back")


@pytest.mark.parametrize("found", [compared(same=2000), compared(better=12)])
def test_beside_a_chain_the_version_in_production_alone_ends_no_watch(found) -> None:
    own, _ = decide_watch(found, compared(same=3, newer=(0, 1, 1)), Rules())
    assert own.step == "hold"


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
    both = LabelComparison((*fell.labels, *gained.labels), Comparison(gains), 2, (0,) * 40)
    decision, _ = decide_watch(both, None, Rules())
    assert decision.step == "roll back"
    assert "in amber" in decision.why
    assert decide_frozen(both, STATE, Rules("superior")).step == "reject"


def test_the_alpha_of_a_job_is_that_of_all_its_decisions() -> None:
    strict, better, fallen = Rules("superior", alpha=1e-6), compared(better=12), compared(worse=12, label="amber")
    needed = -np.log(1e-6)
    for found in (better, fallen):
        assert decide_frozen(found, STATE, strict).step == "hold"
        assert decide_watch(found, None, strict)[0].step == "hold"
    decisions = (decide_frozen(better, STATE, strict), decide_by_held_back(better, STATE, strict))
    assert all(each.result is not None and np.isclose(each.result.log_needed, needed) for each in decisions)
    need_not_wait = decide_by_held_back(better, STATE, Rules("watchful", alpha=1e-6)).result
    assert need_not_wait is not None
    assert np.isclose(need_not_wait.log_needed, needed)


def told(labels: int, better: int, worse: int) -> str:
    return f"of {labels} labels, the newer version alone is right on {better}, the older one alone on {worse}"


def guarded(can_tell: int) -> str:
    return f"; no class is shown to be worse ({can_tell} of 2 have enough labels to tell)"


@pytest.mark.parametrize(
    ("found", "policy", "why"),
    [
        (compared(better=12), "superior", f"shown to be better: {told(12, 12, 0)}{guarded(0)}"),
        (
            compared(same=400, label="amber"),
            "not-worse",
            f"shown to be not worse by 2 points: {told(400, 0, 0)}{guarded(1)}",
        ),
        (compared(worse=12), "superior", f"production is shown to be better: {told(12, 0, 12)}"),
    ],
)
def test_a_decision_is_told_with_its_counts(found, policy: Policy, why: str) -> None:
    assert decide_frozen(found, STATE, Rules(policy)).why == why


@pytest.mark.parametrize(("count", "told"), [(5, "1, 2, 3, 4, 5"), (7, "1, 2, 3, 4, 5 and 2 more")])
def test_of_many_classes_five_are_named_and_the_others_counted(count: int, told: str) -> None:
    names = tuple(str(number) for number in range(1, count + 1))
    night = Night("today", {}, NewLabels(20, 4, 18.6, 0.8, True, names), True)
    assert decide_nights([night]).why.endswith(f"labels of {told}")


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
    assert decide_by_held_back(found, STATE, Rules("superior")).step == "promote"
    assert decide_by_held_back(found, RegistryState(candidates=9), Rules("superior")).step == "hold"


def test_after_a_rollback_watchful_asks_for_what_not_worse_asks_for() -> None:
    fell_back = RegistryState(candidates=1, fell_back=True)
    assert not Rules("watchful").is_frozen(STATE)
    assert Rules("watchful").is_frozen(fell_back)
    assert Rules("watchful").margin_for(fell_back) == 0.02
    assert Rules("superior").margin_for(fell_back) == 0.0
    assert decide_frozen(compared(same=400), fell_back, Rules("watchful")).step == "promote"


@pytest.mark.parametrize(("worse", "step"), [(3, "promote"), (8, "reject")])
def test_a_candidate_that_need_not_wait_is_promoted_without_harm(worse: int, step: str) -> None:
    decision = decide_by_held_back(compared(worse=worse, same=50), STATE, Rules())
    assert (decision.step, decision.basis) == (step, "held-back examples")
    assert (
        f"of {50 + worse} held-back examples, the newer version alone is right on 0, the older one alone on {worse}"
        in decision.why
    )


def test_new_classes_are_told() -> None:
    decision = decide_by_held_back(compared(same=5), STATE, Rules("superior"), ("gold",))
    assert decision.step == "promote"
    assert decision.why.startswith("gold: new, and not waiting")
    nothing = decide_by_held_back(compared(), STATE, Rules())
    assert nothing.why == "no example could be held back to compare"


@pytest.mark.parametrize(
    ("found", "policy", "step"),
    [
        (compared(same=400), "not-worse", "promote"),
        (compared(same=400), "superior", "hold"),
        (compared(better=12), "superior", "promote"),
        (compared(worse=30), "superior", "hold"),
        (compared(same=20), "not-worse", "hold"),
    ],
)
def test_held_back_examples_must_show_what_labels_would_have_to_where_none_came(found, policy, step) -> None:
    decision = decide_by_held_back(found, STATE, Rules(policy))
    assert (decision.step, decision.basis) == (step, "held-back examples")
    assert (step == "hold") == decision.why.startswith("waiting for labels of audits or imported tables")


def test_refused_nights_are_told_with_their_classes() -> None:
    nights = [
        Night("2026-11-30", {}, NewLabels(20, 4, 18.6, 0.7, True, ("amber", "blue")), True),
        Night("2026-11-30", {}, NewLabels(10, 1, 9.5, 0.9, True, ("blue", "cyan")), True),
    ]
    decision = decide_nights(nights)
    assert decision.step == "refuse"
    assert decision.why == (
        "about 23 new labels seem to be wrong (production agrees with 5 of 30 new labels, 28 expected); look at"
        " the labels of amber, blue, cyan"
    )


def test_a_harm_that_every_version_of_a_chain_does_is_found_and_equal_ones_stay() -> None:
    worse = promote_every_night(gain=-0.06, labels=100, projects=20, nights=15)
    assert worse.share >= 0.9
    assert worse.night <= 6
    equal = promote_every_night(gain=0.0, labels=100, projects=20, nights=15)
    assert equal.share <= 0.15
