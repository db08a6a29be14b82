from itertools import permutations, product

import numpy as np
import pytest
from scipy.stats import beta, binom
from scipy.stats import t as student

from fewshot.audit import Strata
from fewshot.audit.estimates import _corrected_mean, _halves, _slope, estimate_mean, estimate_ratio, exact_interval
from tests.fewshot.audit.replays import Archive, index

VALUES = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0])
STRATUM = np.array([0, 0, 0, 0, 1, 1, 1])
SCORES = {
    "useful": VALUES * 0.5 + np.array([0.2, 0.1, 0.0, 0.3, 0.1, 0.0, 0.2]),
    "unrelated": np.array([0.2, 0.9, 0.4, 0.1, 0.6, 0.3, 0.5]),
    "constant": np.full(7, 0.7),
    "inverted": 1.0 - VALUES,
}


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_the_mean_over_all_samples_is_the_mean_of_the_archive(score):
    strata = Strata(np.array([4, 3]), np.bincount(STRATUM, score), np.zeros(2), np.ones(2))
    samples = [np.array([*a, *b]) for a, b in product(permutations(range(4), 3), permutations(range(4, 7), 2))]
    found = [_corrected_mean(VALUES[i], score[i], STRATUM[i], strata).value for i in samples]
    assert np.mean(found) == pytest.approx(VALUES.mean(), abs=1e-12)


@pytest.mark.parametrize(("kind", "expected"), [("constant", 0.0), ("inverted", 0.0)])
def test_useless_scores_have_no_weight(kind, expected):
    rng = np.random.default_rng(0)
    value = (rng.random(200) < 0.7).astype(float)
    score = {"constant": np.full(200, 0.7), "inverted": 1.0 - value}[kind]
    strata = Strata(np.array([1000]), np.array([700.0]), np.zeros(1), np.ones(1))
    assert _slope(value, score, np.zeros(200, int), np.ones(200, bool), strata) == expected


def test_random_scores_mostly_have_no_weight():
    strata = Strata(np.array([1000]), np.array([500.0]), np.zeros(1), np.ones(1))
    found = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        value, score = (rng.random(200) < 0.7).astype(float), rng.random(200)
        found.append(_slope(value, score, np.zeros(200, int), np.ones(200, bool), strata))
    assert np.median(found) == 0.0
    assert np.mean(found) < 0.05


def test_exact_scores_have_all_weight_and_leave_no_interval():
    archive = Archive.random(1000)
    score = archive.right.astype(float)
    stratum, rows = np.zeros(200, int), np.random.default_rng(0).permutation(1000)[:200]
    strata = Strata(np.array([1000]), np.array([score.sum()]), np.zeros(1), np.ones(1))
    found = estimate_mean(score[rows], score[rows], stratum, strata)
    assert found is not None
    assert found.value == pytest.approx(score.mean(), abs=0.01)
    assert found.high - found.low < 0.01


def test_permuting_scores_within_strata_only_widens():
    archive = Archive.random(4000, bias=-0.1, seed=3)
    rng, edges = np.random.default_rng(0), np.quantile(archive.score, [0.5])
    stratum = np.searchsorted(edges, archive.score)
    permuted = archive.score.copy()
    for each in (0, 1):
        own = np.flatnonzero(stratum == each)
        permuted[own] = permuted[rng.permutation(own)]
    strata = Strata(np.bincount(stratum), np.bincount(stratum, archive.score), np.zeros(2), np.ones(2))
    right = archive.right.astype(float)
    widths = {"own": [], "permuted": []}
    for _ in range(60):
        rows = rng.permutation(4000)[:300]
        for name, score in (("own", archive.score), ("permuted", permuted)):
            found = estimate_mean(right[rows], score[rows], stratum[rows], strata)
            widths[name].append(found.high - found.low)
    assert np.mean(widths["own"]) < np.mean(widths["permuted"])


def test_no_estimate_with_one_row_of_a_stratum():
    strata = Strata(np.array([10, 10]), np.zeros(2), np.zeros(2), np.zeros(2))
    value, stratum = np.ones(3), np.array([0, 0, 1])
    assert estimate_mean(value, np.zeros(3), stratum, strata) is None
    assert estimate_ratio(value, value, stratum, strata) is None


def test_a_complete_sample_leaves_no_interval():
    archive = Archive.random(40)
    draw = archive.draw(40)
    rows = [index(row.image) for row in draw.rows]
    stratum = np.array([row.stratum for row in draw.rows])
    found = estimate_mean(archive.right[rows].astype(float), archive.score[rows], stratum, draw.strata)
    assert found is not None
    assert found.low == found.high == pytest.approx(archive.right.mean())


def test_the_exact_interval_is_that_of_the_binomial_test():
    low, high = exact_interval(3, 40, alpha=0.05)
    assert binom.sf(2, 40, low) == pytest.approx(0.025)
    assert binom.cdf(3, 40, high) == pytest.approx(0.025)
    assert exact_interval(0, 40, alpha=0.05)[0] == 0.0
    assert exact_interval(40, 40, alpha=0.05)[1] == 1.0


@pytest.mark.parametrize(("rows", "bias", "size"), [(2000, -0.15, 100), (2000, 0.15, 60), (300, 0.0, 100)])
def test_intervals_hold_for_a_fixed_number_of_rows(rows, bias, size):
    archive = Archive.random(rows, bias=bias)
    right, covered = archive.right.astype(float), []
    edges = np.quantile(archive.score, [0.25, 0.5, 0.75])
    stratum = np.searchsorted(edges, archive.score)
    strata = Strata(np.bincount(stratum), np.bincount(stratum, archive.score), np.zeros(4), np.ones(4))
    for seed in range(300):
        drawn = np.random.default_rng(seed).permutation(rows)[:size]
        found = estimate_mean(right[drawn], archive.score[drawn], stratum[drawn], strata)
        covered.append(found is not None and found.low <= right.mean() <= found.high)
    assert np.mean(covered) >= 0.92  # 0.95 less two and a half standard errors of 300.


TWO = Strata(np.array([100, 300]), np.zeros(2), np.zeros(2), np.zeros(2))
TWO_DRAWN = np.repeat([0, 1], [20, 40])


def plain_variance(value, stratum=TWO_DRAWN, rows=(100, 300)):
    """The variance of a stratified mean, stratum by stratum."""
    found = 0.0
    for number, N in enumerate(rows):
        own = value[stratum == number]
        n = len(own)
        found += (N / sum(rows)) ** 2 * (1 - n / N) * own.var(ddof=1) / n
    return found


def test_a_ratio_weighs_strata_by_their_rows():
    part = (TWO_DRAWN == 0).astype(float)  # A third of the sample, and a quarter of the archive.
    assert estimate_ratio(part, np.ones(60), TWO_DRAWN, TWO).value == pytest.approx(0.25)


def test_the_interval_of_a_mean_is_students():
    value = (np.random.default_rng(0).random(60) < 0.6).astype(float)
    found = estimate_mean(value, np.zeros(60), TWO_DRAWN, TWO, alpha=0.1)
    mean = 0.25 * value[:20].mean() + 0.75 * value[20:].mean()
    reach = student.ppf(0.95, 58) * plain_variance(value) ** 0.5
    assert (found.value, found.low, found.high) == pytest.approx((mean, mean - reach, mean + reach))


def test_the_interval_of_a_ratio_is_that_of_its_linear_part():
    rng = np.random.default_rng(1)
    whole = (rng.random(60) < 0.8).astype(float)
    part = whole * (rng.random(60) < 0.5)
    weight = np.where(TWO_DRAWN == 0, 0.25 / 20, 0.75 / 40)
    total = weight @ whole
    ratio = weight @ part / total
    found = estimate_ratio(part, whole, TWO_DRAWN, TWO, alpha=0.1)
    reach = student.ppf(0.95, 58) * plain_variance((part - ratio * whole) / total) ** 0.5
    assert (found.value, found.low, found.high) == pytest.approx((ratio, ratio - reach, ratio + reach))


def test_few_wrong_answers_take_the_exact_interval_of_as_many_rows_as_their_variance_says():
    value = np.ones(60)
    value[[3, 25, 50]] = 0.0
    found = estimate_mean(value, np.zeros(60), TWO_DRAWN, TWO)
    mean = 0.25 * 19 / 20 + 0.75 * 38 / 40
    rows = mean * (1 - mean) / plain_variance(value) * (student.ppf(0.975, 59) / student.ppf(0.975, 58)) ** 2
    rows = min(rows, 60 / (1 - 60 / 400))
    low = beta.ppf(0.025, mean * rows, rows - mean * rows + 1)
    high = beta.ppf(0.975, mean * rows + 1, rows - mean * rows)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_right_answers_alone_leave_the_exact_interval_of_the_rows_that_are_left():
    found = estimate_mean(np.ones(60), np.zeros(60), TWO_DRAWN, TWO)
    assert found.high == 1.0
    assert found.low == pytest.approx(0.025 ** (1 / (60 / (1 - 60 / 400))))


def test_halves_are_even_in_each_stratum_and_together():
    half = _halves(np.repeat(np.arange(6), 5), 6)
    assert all(abs(half[start : start + 5].sum() - 2.5) == 0.5 for start in range(0, 30, 5))
    assert half.sum() == 15
