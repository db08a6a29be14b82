"""The discriminant: it equals a plain twin, its p-values are exact, and it knows nothing of the order of rows."""

from __future__ import annotations

import numpy as np
import pytest

from fewshot.drift import TAIL, Discriminant
from fewshot.drift.two_samples import FOLDS, PENALTY
from tests.fewshot.drift.populations import population


def samples(seed: int, counts: tuple[int, int] = (120, 80), **changes) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    draw = population(**changes)
    return draw(rng, counts[0], 0).features, draw(rng, counts[1], 1).features


def plain(reference: np.ndarray, present: np.ndarray, seed: int) -> tuple[float, float, np.ndarray]:
    """The AUC and the tail by their definitions, in float64, one row after another."""
    rows = np.concatenate([reference, present]).astype(np.float64)
    rows -= rows.mean(axis=0)
    new = np.arange(len(rows)) >= len(reference)
    order = np.random.default_rng(seed).permutation(len(rows))
    penalty = PENALTY * np.trace(rows.T @ rows) / rows.shape[1]
    wins, pairs, tail, unlike = 0.0, 0, 0, np.zeros(len(rows))
    for fold in np.array_split(order, FOLDS):
        rest = np.setdiff1d(order, fold)
        gram = rows[rest].T @ rows[rest] + penalty * np.eye(rows.shape[1])
        scores = rows[fold] @ np.linalg.solve(gram, rows[rest].T @ (new[rest] - new.mean()))
        old = scores[~new[fold]]
        for score in scores[new[fold]]:
            wins += (score > old).sum()
            pairs += len(old)
            tail += (old >= score).sum() <= int(TAIL * len(old))
        unlike[fold] = scores - old.mean()
    return wins / pairs, tail / len(present), unlike[len(reference) :]


@pytest.mark.parametrize("changes", [{}, {"change": "shift"}, {"change": "novel"}], ids=["same", "shift", "novel"])
def test_statistics_equal_those_of_a_plain_twin(changes) -> None:
    reference, present = samples(1, **changes)
    found = Discriminant(reference, present, seed=3)
    auc, tail, unlike = plain(reference, present, 3)
    assert (found.auc, found.tail) == pytest.approx((auc, tail), abs=1e-9)
    assert found.unlikeness() == pytest.approx(unlike, abs=1e-4)


def test_a_shift_and_a_new_kind_of_image_are_told_apart() -> None:
    same, shift, novel = (Discriminant(*samples(2, (600, 300), **changes), seed=0) for changes in CHANGES)
    assert abs(same.auc - 0.5) < 0.06
    assert abs(same.tail - TAIL) < 0.05
    assert shift.auc > 0.7
    assert novel.auc < 0.65  # A fifth of the images, told apart perfectly, give 0.6.
    assert novel.tail > 0.2


CHANGES: tuple[dict[str, str], ...] = ({}, {"change": "shift"}, {"change": "novel"})


def test_the_images_of_a_new_kind_are_the_most_unlike() -> None:
    reference, present = samples(3, (600, 300))
    strange = np.random.default_rng(0).choice(300, 30, replace=False)
    away = np.eye(present.shape[1], dtype=np.float32)[0]
    present[strange] = (away + 0.05 * present[strange]) / np.linalg.norm(away + 0.05 * present[strange], axis=1)[
        :, None
    ]
    unlike = Discriminant(reference, present, seed=0).unlikeness()
    assert unlike.shape == (300,)
    assert set(np.argsort(-unlike)[:20].tolist()) <= set(strange.tolist())


def test_p_values_count_permutations_that_reach_the_statistic() -> None:
    found = Discriminant(*samples(4, change="shift", size=2.0), seed=0).separation(99)
    assert found.auc_p_value == 1 / 100
    assert Discriminant(*samples(5), seed=0).separation(1).auc_p_value in (0.5, 1.0)


def test_p_values_are_uniform_where_nothing_changed() -> None:
    found = [Discriminant(*samples(seed, (40, 20)), seed=seed).separation(19) for seed in range(400)]
    for p_values in (np.array([each.auc_p_value for each in found]), np.array([each.tail_p_value for each in found])):
        for level in (0.05, 0.1, 0.5):
            # Four standard errors above the level: 1 in 30,000 by chance.
            assert (p_values <= level + 1e-9).mean() <= level + 4 * np.sqrt(level * (1 - level) / len(found))
    auc = np.array([each.auc_p_value for each in found])
    assert abs(auc.mean() - 0.525) < 0.06  # Nor are they too large: the mean of 0.05, 0.1, …, 1.


@pytest.mark.parametrize("counts", [(50, 100), (115, 100), (300, 60)])
def test_the_expected_tail_is_the_mean_where_nothing_changed(counts: tuple[int, int]) -> None:
    drawn = [Discriminant(*samples(seed, counts), seed=seed) for seed in range(60)]
    found, expected = [each.tail for each in drawn], [each.expected_tail for each in drawn]
    assert np.mean(found) == pytest.approx(np.mean(expected), abs=4 * np.std(found) / np.sqrt(len(found)))
    assert np.std(expected) < 0.02
    assert (np.mean(expected) > 0.07) == (counts != (300, 60))  # One of 11 or 24 rows, and of 60 near a twentieth.


def test_equal_rows_are_no_drift() -> None:
    row = np.ones((60, 4), np.float32) / 2
    found = [Discriminant(row, row, seed=seed).separation(39) for seed in range(20)]
    assert np.mean([each.auc_p_value for each in found]) > 0.2
    assert abs(np.mean([each.auc for each in found]) - 0.5) < 0.06


def test_the_same_rows_and_seed_give_the_same_p_values() -> None:
    reference, present = samples(6)
    one, other = (Discriminant(reference, present, seed=5).separation(300) for _ in range(2))
    assert (one.auc, one.auc_p_value, one.tail_p_value) == (other.auc, other.auc_p_value, other.tail_p_value)


@pytest.mark.parametrize("present", [np.zeros((20, 3), np.float32), np.zeros((FOLDS - 1, 4), np.float32)])
def test_samples_that_cannot_be_compared_are_refused(present) -> None:
    with pytest.raises(ValueError, match="cannot compare"):
        Discriminant(np.zeros((20, 4), np.float32), present, seed=0)
