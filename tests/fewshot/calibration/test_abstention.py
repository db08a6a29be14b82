"""Thresholds: the stated confidence holds, and the search is the plain one, test by test."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from fewshot.calibration.abstention import (
    ABSTAIN_ALWAYS,
    HeldOutScores,
    error_upper_bound,
    fewest_images,
    first_count,
    guaranteed_threshold,
    least_error,
    shows,
)
from fewshot.errors import DataError

DELTA = 0.1
DRAWS = 1500
"""Of a simulation; with a failure probability of 0.1, three standard errors of its share are 0.023."""
SLACK = 3.0 * math.sqrt(DELTA * (1.0 - DELTA) / DRAWS)


def plain_threshold(scores, correct, *, max_error, confidence):
    """The search as one describes it: distinct scores from the largest to the smallest, a bound for each."""
    known = [(score, hit) for score, hit in zip(scores, correct, strict=True) if not math.isnan(score)]
    found, first = ABSTAIN_ALWAYS, math.ceil(len(known) / 10)
    while (1.0 - max_error) ** first > (1.0 - confidence) * (1.0 + 1e-9):
        first += 1
    for threshold in sorted({score for score, _ in known}, reverse=True):
        kept = [hit for score, hit in known if score >= threshold]
        errors = kept.count(False)
        if len(kept) < first:
            continue
        if errors == len(kept) or beta.ppf(confidence, errors + 1, len(kept) - errors) > max_error + 1e-9:
            break
        found = threshold
    return found


def test_enough_images_without_errors_accept_everything():
    scores = np.linspace(0.5, 1.0, 100)
    found = guaranteed_threshold(scores, np.ones(100, bool), max_error=0.05, confidence=0.9)
    assert found.threshold == 0.5
    assert found.error_bound <= 0.05
    assert found.coverage == 1.0


@pytest.mark.parametrize("images", [0, 1, 40])
def test_too_few_images_guarantee_nothing(images):
    found = guaranteed_threshold(np.ones(images), np.ones(images, bool), max_error=0.05, confidence=0.9)
    assert found.threshold == ABSTAIN_ALWAYS
    assert found.error_bound is None
    assert found.coverage == 0.0


def test_twenty_two_images_without_an_error_suffice_for_a_tenth():
    scores, correct = np.linspace(0.1, 1.0, 30), np.arange(30) >= 8
    found = guaranteed_threshold(scores, correct, max_error=0.1, confidence=0.9)
    assert found.threshold == scores[8]
    assert found.coverage == pytest.approx(22 / 30)
    one_less = guaranteed_threshold(scores, np.arange(30) >= 9, max_error=0.1, confidence=0.9)
    assert one_less.threshold == ABSTAIN_ALWAYS


def test_wrong_predictions_alone_guarantee_nothing():
    scores = np.linspace(0.0, 1.0, 500)
    found = guaranteed_threshold(scores, np.zeros(500, bool), max_error=0.5, confidence=0.9)
    assert found.threshold == ABSTAIN_ALWAYS


def test_errors_at_low_scores_raise_the_threshold():
    scores = np.linspace(0.0, 1.0, 1000)
    found = guaranteed_threshold(scores, scores > 0.25, max_error=0.02, confidence=0.9)
    assert 0.2 < found.threshold < 0.35


@given(errors=st.integers(0, 30), more=st.integers(0, 100), delta=st.floats(0.001, 0.5))
def test_the_error_bound_is_the_exact_binomial_one(errors, more, delta):
    images = errors + more
    bound = error_upper_bound(errors, images, delta=delta)
    if more:
        assert binom.cdf(errors, images, bound) == pytest.approx(delta, rel=1e-6)
    else:
        assert bound == 1.0


def test_the_guarantee_holds_with_its_stated_confidence():
    generator = np.random.default_rng(0)
    broken = 0
    for _ in range(200):
        scores = generator.random(300)
        correct = generator.random(300) < 0.5 + 0.5 * scores
        threshold = guaranteed_threshold(scores, correct, max_error=0.2, confidence=0.9).threshold
        # Above a threshold t the true error is the mean of 0.5 (1 - s) over s in [t, 1].
        broken += threshold <= 1.0 and 0.25 * (1.0 - threshold) > 0.2
    assert broken <= 0.1 * 200


@pytest.mark.parametrize(
    ("images", "safe", "levels"),
    [
        (25, 0.0, None),  # Every threshold is wrong: the whole failure probability is spent on the first test.
        (200, 0.0, None),
        (60, 0.3, None),  # The most confident 30 % are always right, and all thresholds below 0.3 / 0.85 are wrong.
        (150, 0.5, None),
        (100, 0.3, 8),  # The same with eight different scores.
        (100, 0.0, 1),
    ],
)
def test_the_error_rate_is_exceeded_at_most_as_often_as_stated(images, safe, levels):
    max_error, rate, chance = 0.15, 0.1501 if safe == 0.0 else 0.3, np.random.default_rng(0)
    exceeded = 0
    for _ in range(DRAWS):
        scores = chance.random(images)
        if levels is not None:
            scores = np.floor(scores * levels) / levels
        correct = (scores >= 1.0 - safe) | (chance.random(images) >= rate)
        threshold = guaranteed_threshold(scores, correct, max_error=max_error, confidence=1.0 - DELTA).threshold
        if threshold <= 1.0:
            sure = 0.0 if levels is None else (1.0 - math.ceil((1.0 - safe) * levels) / levels)
            kept = 1.0 - threshold
            exceeded += rate * (1.0 - min(1.0, (safe if levels is None else sure) / kept)) > max_error
    assert exceeded <= (DELTA + SLACK) * DRAWS
    if safe == 0.0 and levels is None and images == 25:
        assert exceeded > 0.5 * DELTA * DRAWS  # The simulation can fail: delta is nearly used up.


ranked = st.lists(
    st.tuples(st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.9, 0.99, math.nan]) | st.floats(0, 1, width=32), st.booleans()),
    max_size=90,
)


@given(ranked=ranked, right=st.integers(0, 90), max_error=st.floats(0.03, 0.9), confidence=st.floats(0.5, 0.99))
def test_the_threshold_is_that_of_the_plain_search(ranked, right, max_error, confidence):
    ranked = [*ranked, *((0.95, True) for _ in range(right))]
    scores, correct = np.array([score for score, _ in ranked], np.float32), np.array([hit for _, hit in ranked], bool)
    found = guaranteed_threshold(scores, correct, max_error=max_error, confidence=confidence)
    plain = plain_threshold(scores.tolist(), correct.tolist(), max_error=max_error, confidence=confidence)
    assert found.threshold == plain
    kept = scores >= found.threshold
    assert found.coverage == (int(kept.sum()) / len(scores) if kept.any() else 0.0)
    if kept.any():
        errors = int((kept & ~correct).sum())
        assert found.error_bound == pytest.approx(error_upper_bound(errors, int(kept.sum()), delta=1.0 - confidence))


@given(
    hits=st.lists(st.booleans(), min_size=1, max_size=150),
    errors=st.tuples(st.floats(0.02, 0.9), st.floats(0.02, 0.9)),
    confidences=st.tuples(st.floats(0.5, 0.99), st.floats(0.5, 0.99)),
)
def test_a_larger_error_a_smaller_confidence_and_more_hits_never_label_less(hits, errors, confidences):
    held_out = HeldOutScores(np.linspace(0.0, 1.0, len(hits)), np.array(hits))
    strict, lax = sorted(errors)
    unsure, sure = sorted(confidences)
    coverage = held_out.guarantee(strict, confidence=sure).coverage
    assert held_out.guarantee(lax, confidence=sure).coverage >= coverage
    assert held_out.guarantee(strict, confidence=unsure).coverage >= coverage
    better = HeldOutScores(held_out.scores, held_out.correct | (np.arange(len(hits)) == len(hits) // 2))
    assert better.guarantee(strict, confidence=sure).coverage >= coverage


def test_a_test_passed_after_a_failed_one_counts_for_nothing():
    """Otherwise the threshold would be the best of many looks, each with the whole failure probability."""
    scores = np.linspace(1.0, 0.0, 300)
    correct = np.ones(300, bool)
    correct[24:30] = False  # Six errors among the 30 of the first test, which fails; later ones would pass.
    counts = np.arange(1, 301)
    passing = shows((~correct).cumsum(), counts, max_error=0.1, confidence=0.9) & (counts >= 30)
    assert passing[-1]
    assert not passing[29]
    found = guaranteed_threshold(scores, correct, max_error=0.1, confidence=0.9)
    assert found.threshold == ABSTAIN_ALWAYS
    correct[24:30], correct[40:60] = True, False
    found = guaranteed_threshold(scores, correct, max_error=0.1, confidence=0.9)
    assert 40 <= round(300 * found.coverage) < 60
    assert shows(20, 300, max_error=0.1, confidence=0.9)


def test_equal_scores_are_kept_or_abstain_together():
    scores = np.array([0.9] * 30 + [0.5] * 30)
    correct = np.array([True] * 30 + [True] * 10 + [False] * 20)
    found = guaranteed_threshold(scores, correct, max_error=0.1, confidence=0.9)
    assert (found.threshold, found.coverage) == (pytest.approx(0.9), 0.5)
    all_equal = guaranteed_threshold(np.ones(60), correct, max_error=0.1, confidence=0.9)
    assert all_equal.threshold == ABSTAIN_ALWAYS


def test_predictions_without_a_score_abstain_and_count_as_such():
    scores = np.array([math.nan] * 10 + [0.8] * 30)
    correct = np.array([False] * 10 + [True] * 30)
    found = guaranteed_threshold(scores, correct, max_error=0.1, confidence=0.9)
    assert (found.threshold, found.coverage) == (pytest.approx(0.8), 0.75)
    nothing = guaranteed_threshold(np.full(50, math.nan), np.ones(50, bool), max_error=0.5, confidence=0.9)
    assert nothing.threshold == ABSTAIN_ALWAYS


def test_one_wrong_label_among_thousands_does_not_end_the_search():
    scores, correct = np.linspace(0.0, 1.0, 1000), np.ones(1000, bool)
    correct[-1] = False
    assert guaranteed_threshold(scores, correct, max_error=0.1, confidence=0.9).coverage == 1.0


@given(max_error=st.floats(0.01, 0.5), confidence=st.floats(0.5, 0.99))
def test_the_fewest_images_are_the_first_that_any_threshold_passes_with(max_error, confidence):
    def passes(images):
        scores, correct = np.ones(images), np.ones(images, bool)
        found = guaranteed_threshold(scores, correct, max_error=max_error, confidence=confidence)
        return found.threshold != ABSTAIN_ALWAYS

    fewest = fewest_images(max_error, confidence=confidence)
    assert passes(fewest)
    assert not passes(fewest - 1)


def test_held_out_scores_are_equal_by_their_values():
    scores, hits = np.array([0.5, math.nan]), np.array([True, False])
    assert HeldOutScores(scores, hits) == HeldOutScores(scores.copy(), hits.copy())
    assert HeldOutScores(scores, hits) != HeldOutScores(scores, ~hits)
    assert HeldOutScores(scores, hits) != HeldOutScores(scores[:1], hits[:1])
    assert HeldOutScores(scores, hits) != "scores"


def test_without_a_maximum_everything_is_kept_and_bounded():
    held_out = HeldOutScores(np.linspace(0.0, 1.0, 20), np.arange(20) >= 4)
    found = held_out.guarantee(None, confidence=0.9)
    assert (found.threshold, found.coverage) == (None, 1.0)
    assert found.error_bound == error_upper_bound(4, 20, delta=1.0 - 0.9)
    nothing = HeldOutScores(np.zeros(0), np.zeros(0, bool)).guarantee(None, confidence=0.9)
    assert (nothing.threshold, nothing.error_bound, nothing.coverage) == (None, None, 0.0)


@pytest.mark.parametrize(
    ("max_error", "confidence"), [(0.0, 0.9), (1.0, 0.9), (math.nan, 0.9), (0.1, 0.0), (None, 1.0)]
)
def test_limits_out_of_range_are_refused(max_error, confidence):
    with pytest.raises(DataError, match=r"must lie in \(0, 1\)"):
        HeldOutScores(np.ones(1), np.ones(1, bool)).guarantee(max_error, confidence=confidence)


rates = st.floats(0.01, 0.9)
confidences = st.floats(0.5, 0.99)


def accepts(images: int, *, max_error: float, confidence: float) -> bool:
    """Whether so many images, all labelled right, satisfy calibration."""
    scores, correct = np.linspace(0, 1, images), np.ones(images, bool)
    found = guaranteed_threshold(scores, correct, max_error=max_error, confidence=confidence)
    return found.threshold < ABSTAIN_ALWAYS


@pytest.mark.parametrize(("max_error", "fewest"), [(0.05, 45), (0.1, 22), (0.2, 11), (0.3, 7), (0.9, 1), (0.99, 1)])
def test_the_fewest_images_at_common_error_rates(max_error, fewest):
    assert fewest_images(max_error, confidence=0.9) == fewest


@given(max_error=rates, confidence=confidences)
def test_the_fewest_images_are_the_fewest_that_calibration_accepts(max_error, confidence):
    needed = fewest_images(max_error, confidence=confidence)
    assert accepts(needed, max_error=max_error, confidence=confidence)
    assert not accepts(needed - 1, max_error=max_error, confidence=confidence)


@given(held_out=st.integers(1, 2000), confidence=confidences)
def test_the_least_error_is_the_least_that_calibration_accepts(held_out, confidence):
    least = least_error(held_out, confidence=confidence)
    assert accepts(held_out, max_error=least * 1.0001, confidence=confidence)
    assert not accepts(held_out, max_error=least * 0.9999, confidence=confidence)


def test_without_held_out_images_no_error_can_be_shown():
    assert least_error(0, confidence=0.9) is None


@given(errors=st.integers(0, 30), more=st.integers(0, 100), max_error=rates, confidence=confidences)
def test_errors_show_a_rate_where_the_exact_bound_does_not_exceed_it(errors, more, max_error, confidence):
    bound = error_upper_bound(errors, errors + more, delta=1.0 - confidence)
    if errors + more and abs(bound - max_error) > 1e-6:
        assert shows(errors, errors + more, max_error=max_error, confidence=confidence) == (bound < max_error)


@pytest.mark.parametrize(
    ("images", "first"), [(0, 22), (21, 22), (22, 22), (220, 22), (221, 23), (1000, 100), (2048, 205)]
)
def test_the_search_begins_where_it_can_succeed_or_at_a_tenth(images, first):
    assert first_count(images, max_error=0.1, confidence=0.9) == first


@pytest.mark.parametrize(
    ("max_error", "confidence", "images"), [(0.02, 0.02, 1), (0.1, 0.19, 2), (0.3, 0.51, 2), (0.2, 0.488, 3)]
)
def test_rounding_asks_for_no_further_image_and_exceeds_no_maximum(max_error, confidence, images):
    assert fewest_images(max_error, confidence=confidence) == images
    found = guaranteed_threshold(np.ones(images), np.ones(images, bool), max_error=max_error, confidence=confidence)
    assert (found.threshold, found.coverage) == (1.0, 1.0)
    assert found.error_bound <= max_error
