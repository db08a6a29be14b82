import numpy as np
import pytest

from fewshot.audit.betting import Bets, log_capital, lower_bound, upper_bound
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
