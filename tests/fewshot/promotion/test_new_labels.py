"""New labels that contradict production: how often wrong ones are held back, and right ones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fewshot.promotion import NewLabels, RankedLabels, check_new_labels
from fewshot.promotion.new_labels import EXACT, _exact_chance, _normal_chance
from fewshot.promotion.recalibration import Floats, Ranks, Recalibration

CLASSES = 40
SHOWN = 5


def ranked(scores: Floats, ranks: Ranks) -> RankedLabels:
    return RankedLabels(np.asarray(ranks, np.int64), np.asarray(scores, np.float64))


def images(count: int, rng: np.random.Generator, *, shift: float = 0.0) -> tuple[RankedLabels, Ranks]:
    """Scores of images and the ranks of their right labels; by `shift` the scores promise too little, in log-odds."""
    true = rng.dirichlet(np.full(CLASSES, 0.05), count)
    true = -np.sort(-true, axis=1)
    first = 1.0 / (1.0 + (1.0 / true[:, :1].clip(1e-3, 1 - 1e-3) - 1.0) * np.exp(shift))
    scores = np.concatenate([first, true[:, 1:] * (1.0 - first) / (1.0 - true[:, :1]).clip(1e-9)], axis=1)
    places = (rng.random((count, 1)) > true.cumsum(axis=1)).sum(axis=1).clip(0, CLASSES - 1)
    return ranked(scores[:, :SHOWN], places.clip(0, SHOWN)), places


def night(count: int, seed: int, *, wrong: float = 0.0, shift: float = 0.0) -> tuple[list[str], RankedLabels]:
    """Labels of a night; the wrong ones are any other class, and are called so."""
    rng = np.random.default_rng(seed)
    found, places = images(count, rng, shift=shift)
    is_wrong = np.arange(count) < round(wrong * count)
    others = (places + rng.integers(1, CLASSES, count)) % CLASSES
    ranks = np.where(is_wrong, others.clip(0, SHOWN), found.ranks)
    return ["wrong" if each else "right" for each in is_wrong], ranked(found.scores, ranks)


def check(count: int, seed: int, *, wrong: float = 0.0, shift: float = 0.0, earlier: int = 0) -> NewLabels:
    before = night(earlier, 10_000 + seed, shift=shift)[1] if earlier else None
    return check_new_labels(*night(count, seed, wrong=wrong, shift=shift), CLASSES, before)


@pytest.mark.parametrize(("count", "least"), [(20, 0.5), (40, 0.8), (80, 0.95)])
@pytest.mark.parametrize(("shift", "earlier"), [(0.0, 0), (0.0, 60), (1.5, 60)])
def test_a_night_with_thirty_percent_wrong_labels_is_held_back(
    count: int, least: float, shift: float, earlier: int
) -> None:
    found = [check(count, seed, wrong=0.3, shift=shift, earlier=earlier) for seed in range(25)]
    assert np.mean([each.is_suspicious for each in found]) >= least
    assert all(each.classes[0] == "wrong" for each in found if each.is_suspicious)


@pytest.mark.parametrize("shift", [-0.3, 0.0, 1.5])
@pytest.mark.parametrize("earlier", [0, 60])
def test_right_labels_pass(shift: float, earlier: int) -> None:
    found = [check(count, seed, shift=shift, earlier=earlier) for count in (10, 20, 80) for seed in range(100)]
    assert sum(each.is_suspicious for each in found) <= 1


def test_scores_that_promise_too_little_are_recalibrated_by_earlier_labels() -> None:
    alone, told = check(80, 1, shift=1.5), check(80, 1, shift=1.5, earlier=300)
    assert alone.expected < 0.85 * alone.agreeing
    assert told.expected == pytest.approx(told.agreeing, rel=0.15)


def test_without_earlier_labels_scores_are_taken_as_they_are() -> None:
    labels = night(30, 0)[1]
    chances = Recalibration.from_labels(RankedLabels.none()).middle(labels)
    np.testing.assert_allclose(chances[:, 0], labels.scores[:, 0].clip(1e-3, 1 - 1e-3))
    np.testing.assert_allclose(chances.sum(axis=1), 1.0)


def test_a_class_that_production_does_not_think_of_says_more_than_its_second_choice() -> None:
    scores = np.tile([0.5, 0.4, 0.09], (12, 1))
    second, elsewhere = ranked(scores, np.ones(12)), ranked(scores, np.full(12, 3))
    assert check_new_labels(["a"] * 12, elsewhere, CLASSES).is_suspicious
    assert not check_new_labels(["a"] * 12, second, CLASSES).is_suspicious


def test_few_labels_and_none_are_no_reason_to_wait() -> None:
    assert not check_new_labels(["a"], ranked(np.array([[0.9]]), np.array([1])), 3).is_suspicious
    empty = check_new_labels([], RankedLabels.none(), 3)
    assert (empty.labels, empty.agreeing, empty.expected, empty.is_suspicious) == (0, 0, 0.0, False)
    with pytest.raises(ValueError, match="as many ranks as labels"):
        check_new_labels(["a"], RankedLabels.none(), 3)


@pytest.mark.parametrize("classes", [1, 2])
def test_few_classes_are_no_harm(classes: int) -> None:
    scores = np.tile([0.95, 0.05][:classes], (40, 1))
    right = check_new_labels(["a"] * 40, ranked(scores, np.arange(40) >= 38), classes)
    assert not right.is_suspicious
    wrong = check_new_labels(["a"] * 40, ranked(scores, np.arange(40) >= 28), classes)
    assert wrong.is_suspicious == (classes == 2)


def test_the_probability_is_that_of_all_outcomes() -> None:
    rng = np.random.default_rng(0)
    weights, chances = rng.integers(0, 4, (5, 3)), rng.dirichlet(np.ones(3), (2, 5))
    for reached in range(1, 14):
        expected = sum(
            np.prod([chances[:, at, rank] for at, rank in enumerate(outcome)], axis=0)
            for outcome in itertools.product(range(3), repeat=5)
            if sum(weights[at, rank] for at, rank in enumerate(outcome)) >= reached
        )
        assert _exact_chance(weights, chances, reached) == pytest.approx(np.mean(expected))


def test_the_probability_of_many_labels_is_about_the_exact_one() -> None:
    rng = np.random.default_rng(0)
    weights, chances = rng.integers(0, 9, (EXACT, 3)), rng.dirichlet(np.ones(3), (4, EXACT))
    mean = float((chances * weights).sum(axis=2).mean())  # Of an image.
    for reached in (round(EXACT * mean) + step for step in (-60, -20, 0, 20, 60)):
        exact = _exact_chance(weights, chances, reached)
        assert _normal_chance(weights, chances, reached) == pytest.approx(exact, abs=0.01)
