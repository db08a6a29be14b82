from dataclasses import replace

import numpy as np
import pytest

from fewshot.audit.betting import LARGEST, PARTS, Bets, _best_bets, log_capital, lower_bound, upper_bound
from fewshot.audit.guesses import Strata, guessed_bets
from tests.fewshot.audit.replays import Archive

ALPHA = 0.05


def bets_on(archive, rows, *, known=0, planned=None):
    """Bets with guesses, in two strata."""
    stratum = (archive.score > 0.85).astype(int)
    score = archive.score
    least, greatest = (np.array([f(score[stratum == i]) for i in (0, 1)]) for f in (np.min, np.max))
    strata = Strata(np.bincount(stratum), np.bincount(stratum, score), least, greatest)
    right = archive.right.astype(float)
    return guessed_bets(right[rows], score[rows], stratum[rows], strata, planned=planned or len(rows), known=known)


def ever_wrong(bets, mean):
    """Whether the interval lacks the mean at any look."""
    pairs = ((bets, mean), (bets.complement(), 1.0 - mean))
    return max(log_capital(each, at, alpha=ALPHA / 2).max() for each, at in pairs) >= -np.log(ALPHA / 2)


@pytest.mark.parametrize(("rows", "bias"), [(2000, -0.2), (2000, 0.15), (200, 0.0)])
def test_bounds_hold_at_every_look_in_1000_replays(rows, bias):
    archive = Archive.random(rows, bias=bias)
    rng, mean = np.random.default_rng(1), archive.right.mean()
    missed = [ever_wrong(bets_on(archive, rng.permutation(rows)[:150], known=4), mean) for _ in range(1000)]
    assert np.mean(missed) <= 0.06


@pytest.mark.parametrize("kind", ["none", "constant", "inverted", "random"])
def test_bounds_hold_whatever_the_scores_are(kind):
    archive = Archive.random(500)
    rng, right = np.random.default_rng(2), archive.right.astype(float)
    scores = {"none": 0.0 * right, "constant": 0.0 * right + 0.7, "inverted": 1.0 - right, "random": rng.random(500)}
    changed, mean = archive.with_scores(scores[kind]), right.mean()
    strata = Strata(np.array([500]), np.array([scores[kind].sum()]), np.zeros(1), np.ones(1))
    missed = []
    for _ in range(200):
        drawn = rng.permutation(500)[:100]
        bets = guessed_bets(right[drawn], changed.score[drawn], np.zeros(100, int), strata, planned=100, known=2)
        missed.append(ever_wrong(bets, mean))
    assert np.mean(missed) <= 0.08


def test_a_bound_is_the_least_mean_that_is_not_rejected():
    bets = bets_on(Archive.random(1000), np.arange(200), known=4)
    low = lower_bound(bets, alpha=0.025)
    assert (
        log_capital(bets, low - 1e-4, alpha=0.025)[-1] > -np.log(0.025) > log_capital(bets, low + 1e-4, alpha=0.025)[-1]
    )


def test_the_capital_falls_with_the_mean():
    bets = bets_on(Archive.random(1000), np.arange(200), known=4)
    capital = [log_capital(bets, mean, alpha=0.025)[-1] for mean in np.linspace(0.6, 0.99, 40)]
    assert (np.diff(capital) < 0).all()


def test_one_bet_is_expected_to_gain_nothing():
    right = np.array([1.0, 1.0, 0.0, 1.0, 0.0])
    score = np.array([0.9, 0.7, 0.5, 0.8, 0.4])
    strata = Strata(np.array([5]), np.array([score.sum()]), np.array([0.4]), np.array([0.9]))
    last = [0, 1, 2, 3, 4]
    gains = []
    for row in last[1:]:
        rows = np.array([0, row])
        bets = guessed_bets(right[rows], score[rows], np.zeros(2, int), strata, planned=2, known=1)
        gains.append(np.exp(log_capital(bets, right.mean(), alpha=0.05)[-1]))
    assert np.mean(gains) == pytest.approx(1.0)


def test_good_guesses_narrow_the_bounds():
    archive = Archive.random(5000)
    noise = np.random.default_rng(0).random(5000)
    good = archive.with_scores(np.where(archive.right, 0.9, 0.2) - 0.1 * noise)
    widths = []
    for each in (good, archive.with_scores(noise)):
        bets = bets_on(each, np.random.default_rng(1).permutation(5000)[:300], known=4)
        widths.append(upper_bound(bets, alpha=0.025) - lower_bound(bets, alpha=0.025))
    assert widths[0] < 0.7 * widths[1]


def test_bounds_of_a_complete_sample_meet():
    archive = Archive.random(50)
    bets = bets_on(archive, np.arange(50), known=4)
    assert lower_bound(bets, alpha=0.025) == pytest.approx(archive.right.mean())
    assert upper_bound(bets, alpha=0.025) == pytest.approx(archive.right.mean())


def test_nothing_is_known_without_rows():
    bets = Bets.without_guesses(np.zeros(0), planned=10, population=10)
    assert (lower_bound(bets, alpha=0.025), upper_bound(bets, alpha=0.025)) == (0.0, 1.0)


@pytest.mark.parametrize("at", [4, 20, 59])
def test_neither_guess_nor_bet_sees_the_row_it_is_about(at):
    archive, rows = Archive.random(500), np.arange(60)
    before = bets_on(archive, rows, known=4)
    score, truth = archive.score.copy(), archive.truth.copy()
    truth[at:60] = np.where(archive.right[at:60], "none", archive.label[at:60])  # All that follows is otherwise.
    after = bets_on(replace(archive, score=score, truth=truth), rows, known=4)
    seen = at - 4 + 1
    for name in ("guess", "mean_guess", "least_guess", "greatest_guess"):
        assert (getattr(before, name)[:seen] == getattr(after, name)[:seen]).all()
    assert (_best_bets(before, ALPHA)[:seen] == _best_bets(after, ALPHA)[:seen]).all()


def test_the_mean_of_the_guesses_is_that_of_all_rows_that_are_left():
    archive, rows = Archive.random(300), np.arange(40)
    bets = bets_on(archive, rows, known=4)
    for number in (0, 10, 35):
        drawn = 4 + number
        guesses = []
        for row in range(drawn, 300):  # What the guess would be, if this row came next.
            order = np.concatenate([rows[:drawn], [row]])
            guesses.append(bets_on(archive, order, known=4, planned=40).guess[number])
        assert bets.mean_guess[number] == pytest.approx(np.mean(guesses))
        assert bets.least_guess[number] <= min(guesses)
        assert bets.greatest_guess[number] >= max(guesses)


def test_the_largest_bet_does_not_ruin():
    bets = Bets.without_guesses(np.zeros(1), planned=1e-6, population=100)
    assert log_capital(bets, 0.4, alpha=0.05) == pytest.approx(np.log(1.0 - LARGEST))
    assert sum(PARTS) == 1.0


def test_a_bet_is_on_the_difference_from_what_is_expected_of_the_next_row():
    bets = Bets.without_guesses(np.array([1.0, 1.0]), planned=1e-6, population=4, known=1, known_sum=0.0)
    first, second = 0.6 * 4 / 3, (0.6 * 4 - 1) / 2  # N m, less what was seen, over what is left.
    gains = [np.log1p(LARGEST * (1.0 - mean) / mean) for mean in (first, second)]
    assert log_capital(bets, 0.6, alpha=0.05) == pytest.approx(np.cumsum(gains))


def test_a_mean_that_the_rows_so_far_exceed_is_impossible():
    bets = Bets.without_guesses(np.ones(5), planned=10, population=10)
    assert np.isinf(log_capital(bets, 0.25, alpha=0.05)[2:]).all()
    assert lower_bound(bets, alpha=1e-9) == 0.5


def test_the_complement_bets_on_what_is_lacking():
    bets = bets_on(Archive.random(300), np.arange(40), known=4)
    twice = bets.complement().complement()
    for name in ("value", "guess", "mean_guess", "least_guess", "greatest_guess", "known_sum"):
        assert getattr(twice, name) == pytest.approx(getattr(bets, name))
    assert (bets.complement().least_guess <= bets.complement().guess).all()
    assert bets.complement().known_sum == bets.known - bets.known_sum
