"""Shares of classes and rates: exact p-values, and what chance adds to a distance is taken off."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from fewshot.drift import compare_shares, rate_p_value


def test_a_distance_is_half_the_sum_of_differences_of_shares() -> None:
    found = compare_shares(np.repeat([0, 1], [60, 40]), np.repeat([0, 1, 7], [20, 20, 10]), permutations=9, seed=0)
    assert found.distance == pytest.approx(0.2)
    assert compare_shares(np.repeat([0], 9), np.repeat([5], 9), permutations=9, seed=0).distance == pytest.approx(1.0)


def test_the_p_value_of_shares_is_that_of_shuffled_labels() -> None:
    rng = np.random.default_rng(0)
    reference, present = rng.choice(4, 60, p=[0.4, 0.3, 0.2, 0.1]), rng.choice(4, 30, p=[0.2, 0.3, 0.3, 0.2])
    pooled = np.concatenate([reference, present])

    def distance(labels: np.ndarray) -> float:
        return 0.5 * sum(abs((labels[:60] == k).mean() - (labels[60:] == k).mean()) for k in range(4))

    drawn = np.array([distance(rng.permutation(pooled)) for _ in range(4000)])
    found = [compare_shares(reference, present, permutations=4000, seed=seed) for seed in range(100)]
    # Each is known to a third of it, as it stops early, and so the mean of a hundred to a thirtieth.
    p_value = np.mean([each.p_value for each in found])
    assert p_value == pytest.approx((drawn >= distance(pooled) - 1e-12).mean(), abs=0.02)
    assert np.mean([each.by_chance for each in found]) == pytest.approx(np.sqrt((drawn**2).mean()), rel=0.02)


def test_p_values_of_shares_are_uniform_where_nothing_changed() -> None:
    rng = np.random.default_rng(2)
    found = [
        compare_shares(rng.choice(5, 80), rng.choice(5, 40), permutations=19, seed=seed).p_value for seed in range(600)
    ]
    for level in (0.05, 0.2, 0.5):
        assert (np.array(found) <= level + 1e-9).mean() <= level + 4 * np.sqrt(level * (1 - level) / 600)
    assert np.mean(found) < 0.6


def test_the_effect_is_what_chance_does_not_explain() -> None:
    rng = np.random.default_rng(3)
    same = [compare_shares(rng.choice(100, 800), rng.choice(100, 300), permutations=99, seed=s) for s in range(20)]
    assert np.mean([each.distance for each in same]) > 0.15
    assert np.mean([each.effect for each in same]) < 0.07
    shares = np.where(np.arange(100) < 50, 1.4, 0.6) / 100  # 0.2 away.
    other = [
        compare_shares(rng.choice(100, 800), rng.choice(100, 300, p=shares), permutations=99, seed=s) for s in range(20)
    ]
    assert np.mean([each.effect for each in other]) == pytest.approx(0.17, abs=0.05)  # Somewhat less, not more


def test_fewest_and_most_p_value_of_shares() -> None:
    same, other = np.repeat(np.arange(3), 20), np.full(40, 9)
    assert compare_shares(same, same, permutations=49, seed=0).p_value == 1.0
    assert compare_shares(same, other, permutations=1000, seed=0).p_value == 1 / 1001


def test_the_p_value_of_rates_is_exact() -> None:
    reference, present = np.arange(10) < 1, np.arange(6) < 4
    ways = [comb(5, k) * comb(11, 6 - k) / comb(16, 6) for k in range(6)]
    expected = sum(way for way in ways if way <= ways[4] * (1 + 1e-9))
    assert rate_p_value(reference, present) == pytest.approx(expected)
    assert rate_p_value(present, reference) == pytest.approx(expected)
    assert rate_p_value(np.zeros(5, bool), np.zeros(5, bool)) == 1.0
