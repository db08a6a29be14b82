"""Levels of nights: in any year they add up to what is stated, at any schedule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.drift import Spent, next_level


def levels(times: list[float], alarms_a_year: float = 1.0) -> list[Spent]:
    spent: list[Spent] = []
    for time in times:
        spent.append(Spent(time, next_level(spent, time, alarms_a_year=alarms_a_year)))
    return spent


@given(
    gaps=st.lists(st.floats(0.0, 0.5) | st.floats(0.0, 0.003), min_size=1, max_size=120),
    alarms_a_year=st.sampled_from([0.1, 1.0, 12.0]),
)
def test_levels_of_any_year_add_up_to_the_stated_number_at_most(gaps, alarms_a_year) -> None:
    spent = levels(list(np.cumsum(gaps)), alarms_a_year)
    for first in spent:
        within = [night.level for night in spent if first.years <= night.years <= first.years + 1.0]
        assert sum(within) <= alarms_a_year * (1 + 1e-9)


def test_a_nightly_schedule_spends_nearly_all_of_it() -> None:
    spent = levels([day / 365 for day in range(1, 731)])
    assert 0.9 < sum(night.level for night in spent[365:]) <= 1.0
    assert 1 / 450 < min(night.level for night in spent)
    assert max(night.level for night in spent) < 1 / 350


def test_a_second_look_costs_little_and_many_looks_starve_themselves() -> None:
    first, second, *_, last = levels([0.01] * 100)
    assert first.level == pytest.approx(1 / 12 / 30)
    assert second.level == pytest.approx(first.level * 29 / 30)
    assert last.level < first.level / 20


def test_what_does_not_fit_is_lost_and_a_clock_that_was_set_back_gives_nothing() -> None:
    assert next_level([], 40.0, alarms_a_year=1.0) == next_level([], 0.0, alarms_a_year=1.0)
    spent = levels([0.5] * 50)
    assert next_level(spent, 0.1, alarms_a_year=1.0) == next_level(spent, 0.5, alarms_a_year=1.0)
    assert next_level([*spent, Spent(0.1, 0.0)], 0.51, alarms_a_year=1.0) == pytest.approx(
        next_level(spent, 0.51, alarms_a_year=1.0)
    )


def test_a_level_stays_small_and_follows_the_number() -> None:
    assert next_level([], 0.0, alarms_a_year=366.0) == 0.05
    assert next_level([], 0.0, alarms_a_year=2.0) == pytest.approx(2 * next_level([], 0.0, alarms_a_year=1.0))
    assert next_level([Spent(0.0, 5.0)], 0.0, alarms_a_year=1.0) == 0.0
    with pytest.raises(ValueError, match="positive"):
        next_level([], 0.0, alarms_a_year=0.0)
