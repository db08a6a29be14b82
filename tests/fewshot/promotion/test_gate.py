"""Policies: what they decide in simulated projects, and how candidates share what may go wrong."""

from __future__ import annotations

import numpy as np
import pytest

from fewshot.promotion import Comparison, decide, log_needed, shows_harm, watch
from tests.fewshot.promotion.projects import comparison, decided, not_worse, simulate, superior, watched

PROJECTS = 250
TOO_MANY = 0.05 + 3 * (0.05 * 0.95 / PROJECTS) ** 0.5
"""Three standard errors above 5 %."""


def test_an_equal_candidate_is_seldom_promoted_however_often_one_looks() -> None:
    outcomes = simulate(superior, gain=0.0, labels=20, projects=PROJECTS)
    assert outcomes.promoted <= TOO_MANY
    assert outcomes.rejected <= TOO_MANY


def test_a_worse_candidate_is_hardly_ever_promoted() -> None:
    assert simulate(superior, gain=-0.01, labels=20, projects=PROJECTS).promoted <= 0.02


def test_a_better_candidate_is_promoted_within_twenty_nights() -> None:
    outcomes = simulate(superior, gain=0.02, labels=100, projects=PROJECTS)
    assert outcomes.promoted >= 0.97
    assert outcomes.promotion_night <= 22  # 19 in 1,000 projects; a median of 250 varies by one or two.


def test_a_margin_promotes_an_equal_candidate_and_no_worse_one() -> None:
    assert simulate(not_worse, gain=0.0, labels=50, projects=100).promoted >= 0.8
    assert simulate(not_worse, gain=-0.02, labels=50, projects=PROJECTS).promoted <= TOO_MANY


def test_a_watched_candidate_that_is_worse_goes_and_one_that_is_better_stays() -> None:
    worse = simulate(lambda *counts: superior(*counts), gain=-0.03, labels=100, projects=PROJECTS)
    assert worse.rejected >= 0.97
    assert worse.rejection_night <= 12
    assert simulate(superior, gain=0.02, labels=100, projects=PROJECTS).rejected <= 0.01


@pytest.mark.parametrize(("better", "worse", "images"), [(0, 0, 0), (9, 9, 100), (40, 10, 200), (10, 40, 200)])
def test_simulated_policies_decide_as_the_real_ones(better: int, worse: int, images: int) -> None:
    assert decided(better, worse, images).decision == superior(better, worse, images)
    assert watched(better, worse, images).decision == superior(better, worse, images)
    counts = comparison(better, worse, images)
    assert decide(counts, margin=0.02).decision == not_worse(better, worse, images)


def test_decisions_take_exactly_the_evidence_that_is_needed() -> None:
    just, short = comparison(18, 5, 23), comparison(17, 6, 23)
    assert short.log_evidence() < np.log(20) <= just.log_evidence()
    assert [decide(each).decision for each in (just, short)] == ["promote", "hold"]
    mirrored = [Comparison(-each.gains) for each in (just, short)]
    assert [decide(each).decision for each in mirrored] == ["reject", "hold"]
    assert [watch(each).decision for each in mirrored] == ["reject", "hold"]
    assert decide(just, candidate=2).decision == "hold"
    assert decide(just, alpha=0.01).decision == "hold"
    assert watch(just).decision == "promote"
    assert watch(just, alpha=0.01).decision == "hold"


def test_a_result_has_the_evidence_on_which_it_rests() -> None:
    found = comparison(9, 3, 40)
    decided, seen = decide(found, margin=0.02, candidate=2), watch(found)
    assert (decided.log_evidence, decided.log_harm) == (found.log_evidence(margin=0.02), found.log_harm())
    assert (seen.log_evidence, seen.log_harm) == (found.log_evidence(), found.log_harm())
    assert (decided.log_needed, seen.log_needed) == (log_needed(2), log_needed(1))


def test_with_a_margin_a_candidate_is_promoted_that_is_not_better() -> None:
    assert decide(comparison(5, 5, 2000)).decision == "hold"
    assert decide(comparison(5, 5, 2000), margin=0.05).decision == "promote"
    assert decide(comparison(0, 20, 4000)).decision == "reject"
    assert decide(comparison(0, 20, 4000), margin=0.05).decision == "promote"  # Worse, but by half a point.


def test_all_candidates_together_have_twice_the_alpha_of_the_first() -> None:
    shares = [np.exp(-log_needed(candidate)) for candidate in range(1, 2000)]
    assert shares[0] == pytest.approx(0.05)
    assert shares[1] == pytest.approx(0.1 / 6)
    assert 0.0999 < sum(shares) < 0.1


def test_harm_on_held_out_examples_is_a_sign_test() -> None:
    assert shows_harm(0, 5)  # 1 / 32
    assert not shows_harm(0, 4)  # 1 / 16
    assert not shows_harm(5, 0)
    assert not shows_harm(0, 0)
    assert shows_harm(10, 22)
    assert not shows_harm(10, 19)
    assert shows_harm(3, 10)  # 0.046


@pytest.mark.parametrize(("candidate", "alpha"), [(0, 0.05), (1, 0.0), (1, 1.0)])
def test_wrong_candidates_and_alphas_are_refused(candidate: int, alpha: float) -> None:
    with pytest.raises(ValueError, match="candidate from 1 and an alpha"):
        log_needed(candidate, alpha=alpha)
