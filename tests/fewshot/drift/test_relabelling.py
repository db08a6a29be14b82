"""P-values that stop early: they equal a plain twin, decide as a fixed number of relabellings would, and are exact."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import numpy as np
import pytest

from fewshot.drift.relabelling import ENOUGH, FIRST, relabelled_p_values

Reach = Callable[[int], np.ndarray]


def stream(chances: list[float], seed: int) -> Reach:
    """Return relabellings that reach each statistic with a chance; the same ones in blocks of any size."""
    rng = np.random.default_rng(seed)
    return lambda count: (rng.random((count, 1)) < np.array(chances)).T


def plain(reach: Reach, statistics: int, most: int) -> list[float]:
    """One relabelling after another, by the definition."""
    reached, p_values = [0] * statistics, [0.0] * statistics
    for drawn in range(1, most + 1):
        for statistic, is_reached in enumerate(reach(1)[:, 0].tolist()):
            reached[statistic] += is_reached
            if reached[statistic] == ENOUGH and not p_values[statistic]:
                p_values[statistic] = ENOUGH / drawn
    return [p or (1 + count) / (1 + most) for p, count in zip(p_values, reached, strict=True)]


@pytest.mark.parametrize("most", [1, ENOUGH, FIRST, FIRST + 1, 199, 1500])
@pytest.mark.parametrize("chances", [[0.5], [1.0, 0.0], [0.3, 0.01], [0.004, 0.02]])
def test_p_values_equal_those_of_a_plain_twin(most, chances) -> None:
    for seed in range(5):
        found = relabelled_p_values(stream(chances, seed), most)
        assert found == plain(stream(chances, seed), len(chances), most)


def test_nothing_is_drawn_once_all_p_values_are_large() -> None:
    drawn: list[int] = []

    def reach(count: int) -> np.ndarray:
        drawn.append(count)
        return np.stack([np.ones(count, bool), np.arange(count) % 2 == 0])

    assert relabelled_p_values(reach, 20_000) == [1.0, ENOUGH / (2 * ENOUGH - 1)]
    assert drawn == [FIRST]


@pytest.mark.parametrize("level", [0.05, 0.003])
def test_an_alarm_is_one_of_the_same_number_without_stopping(level) -> None:
    most = ceil(2 / level)
    for seed in range(60):
        chance = level * (0.2 + seed / 20)
        fixed = (1 + int(stream([chance], seed)(most).sum())) / (1 + most)
        (found,) = relabelled_p_values(stream([chance], seed), most)
        assert (found <= level) == (fixed <= level)


@pytest.mark.parametrize("most", [19, 199])
def test_p_values_are_exact_where_labels_are_exchangeable(most) -> None:
    rng = np.random.default_rng(1)
    count = 4000

    def p_value() -> float:
        value = rng.random()
        return relabelled_p_values(lambda n: rng.random((1, n)) >= value, most)[0]

    found = np.array([p_value() for _ in range(count)])
    for level in (0.02, 0.05, 0.1, 0.5):
        assert (found <= level).mean() <= level + 4 * np.sqrt(level * (1 - level) / count)
    assert (found <= 0.1).mean() >= 0.1 - 4 * np.sqrt(0.09 / count)  # Nor is it lost.
