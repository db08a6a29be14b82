"""The level of each night's test, so that at most so many false alarms a year are to be expected.

Spending by a leaky bucket. It holds levels: what a year may spend in all is the stated number of false alarms a year,
since a test at level alpha alarms falsely alpha times on average, and expectations add up whatever depends on what. A
twelfth of it fits into the bucket, which is full at the first reference; eleven twelfths a year flow in, and what does
not fit is lost. Each night spends a thirtieth of what is there.

Bound: in any 365 days the levels add up to at most what was in the bucket at first and what flowed in, which is 1/12 +
11/12 of the stated number. So the expected number of nights with a false alarm is at most that, whether images come
every night, every hour, or once a week, for any dependence between nights (they share one reference, and images), and
for any reference, as long as the times of nights do not depend on what was found. With one night a day and one false
alarm a year, a night has a level of about 1 / 400; a second look a minute later has nearly the same, and a hundred
looks in an hour starve themselves. A night with several statistics divides its level among them (union bound).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

CAPACITY = 1.0 / 12.0
"""What fits into the bucket, as a share of a year's alarms."""
SHARE = 1.0 / 30.0
"""Of what is in the bucket, spent by one night."""
MOST = 0.05
"""Largest level of a night."""


@dataclass(frozen=True, slots=True)
class Spent:
    """A night that was compared.

    Attributes:
        years: time since the first reference, in years of 365 days.
        level: that it spent.
    """

    years: float
    level: float


def next_level(spent: Iterable[Spent], years: float, *, alarms_a_year: float) -> float:
    """Return the level of the next night; it follows from the nights that are stored.

    Args:
        spent: all nights that were compared, in order, whatever their reference.
        years: time of the next night since the first reference; a clock that was set back makes no time pass.
        alarms_a_year: expected number of false alarms a year, > 0.

    Raises:
        ValueError: the number is not positive.
    """
    if not alarms_a_year > 0.0:
        raise ValueError(f"expected a positive number of false alarms a year, got {alarms_a_year}")
    capacity = CAPACITY * alarms_a_year
    inflow = alarms_a_year - capacity
    held, then = capacity, 0.0
    for night in spent:
        held = min(capacity, held + inflow * max(0.0, night.years - then))
        held, then = max(0.0, held - night.level), max(then, night.years)
    held = min(capacity, held + inflow * max(0.0, years - then))
    return min(MOST, SHARE * held)
