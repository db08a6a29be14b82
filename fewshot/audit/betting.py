"""Bounds of a mean that hold at every look: betting on rows drawn at random without replacement.

Waudby-Smith and Ramdas 2023 ("Estimating means of bounded random variables by betting", sections 4 and 5, JRSS-B 86)
test "the mean is m" by a capital that is multiplied with each row: no bet can be expected to gain if it is true, so by
Ville's inequality the capital ever reaches 1 / alpha with probability alpha at most. Values that it rejects are outside
the bounds, whenever one looks.

Of N rows, R are left before a draw, and S is the sum of the others: so the next row is expected to be
mu = (N m - S) / R. Of the row, only its difference from a guess g is bet on, and the guesses of the rows that are left
have a known mean G and a known maximum M. The capital is multiplied with

    1 + b (y - g + G - mu),    0 <= b < 1 / (mu + M - G),

which is expected to be 1, never negative, and the lower, the larger m is. So one search finds the lowest m that is
not rejected. The upper bound is the lower bound of 1 - y with the guesses 1 - g.

The best b for n rows with a variance v is sqrt(2 log(1 / alpha) / (n v)); the variance is that of the rows before, and
n is the number that is planned. The capital is spread over twice and half as much, too (a mixture, as in their section
B): these are the best bets for looks at a quarter of n and at four times n. Guesses are ours: good ones (see
`fewshot.audit.guesses`) leave less variance to bet on, bad ones cost width, never coverage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FACTORS, PARTS = np.array([0.5, 1.0, 2.0]), np.array([0.25, 0.5, 0.25])
"""Multiples of the best bet, and the parts of the capital that they are made with."""
LARGEST = 0.95
"""Share of the bet that can ruin: no bet is larger."""
ROUNDING = 1e-9
STEPS = 24
"""Halvings of the interval in which a bound is searched."""


@dataclass(frozen=True, slots=True, eq=False)
class Bets:
    """Rows in the order of a draw, and what was known of each before it was drawn.

    Attributes:
        value: [T] float64 in [0, 1].
        guess: [T] float64, of the row.
        mean_guess: [T] float64, mean of the guesses of all rows that were left, this one included.
        least_guess: [T] float64, no more than any of them.
        greatest_guess: [T] float64, no less than any of them.
        planned: number of rows that the bounds are to be narrow at, > 0.
        population: N, number of all rows.
        known: number of rows whose values were known before the first draw.
        known_sum: sum of their values.
    """

    value: np.ndarray
    guess: np.ndarray
    mean_guess: np.ndarray
    least_guess: np.ndarray
    greatest_guess: np.ndarray
    planned: float
    population: int
    known: int = 0
    known_sum: float = 0.0

    @classmethod
    def without_guesses(
        cls, value: np.ndarray, *, planned: float, population: int, known: int = 0, known_sum: float = 0.0
    ) -> Bets:
        """Return bets on the values themselves."""
        zero = np.zeros(len(value))
        return cls(value, zero, zero, zero, zero, planned, population, known, known_sum)

    def complement(self) -> Bets:
        """Return the bets on 1 - value."""
        return Bets(
            1.0 - self.value,
            1.0 - self.guess,
            1.0 - self.mean_guess,
            1.0 - self.greatest_guess,
            1.0 - self.least_guess,
            self.planned,
            self.population,
            self.known,
            self.known - self.known_sum,
        )


def log_capital(bets: Bets, mean: float, *, alpha: float) -> np.ndarray:
    """Return the logarithm of the capital of bets that the mean is larger.

    Args:
        bets: on the rows.
        mean: of all N rows, to test.
        alpha: probability of rejecting the true mean, in (0, 1), which the size of the bets is chosen for.

    Returns:
        [T] float64, after each row; infinite from the row on that makes the mean impossible.
    """
    before = bets.known_sum + np.concatenate([[0.0], np.cumsum(bets.value)])
    left = bets.population - bets.known - np.arange(len(before))
    expected = (bets.population * mean - before[:-1]) / left[:-1]  # [T], mu
    room = np.maximum(expected, 0.0) + bets.greatest_guess - bets.mean_guess
    gain = bets.value + bets.greatest_guess - bets.guess - room
    largest = np.divide(LARGEST, room, out=np.full_like(room, np.inf), where=room > 0.0)
    bet = np.minimum(_best_bets(bets, alpha)[:, None] * FACTORS, largest[:, None])  # [T, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        won = np.where(gain[:, None] == 0.0, 0.0, np.log1p(bet * gain[:, None]))
    capital = np.logaddexp.reduce(np.cumsum(won, axis=0) + np.log(PARTS), axis=1)
    impossible = np.maximum.accumulate(bets.population * mean < before[1:] - ROUNDING)
    return np.where(impossible, np.inf, capital)


def _best_bets(bets: Bets, alpha: float) -> np.ndarray:
    """[T], the best bet for the planned number of rows, by what was known before each row."""
    difference = bets.value - bets.guess + bets.mean_guess
    count = np.arange(1, len(difference) + 1)
    mean = (0.5 + np.cumsum(difference)) / (count + 1)
    variance = (0.25 + np.cumsum((difference - mean) ** 2)) / (count + 1)
    known_before = np.concatenate([[0.25], variance[:-1]])
    return np.asarray(np.sqrt(-2.0 * np.log(alpha) / (bets.planned * known_before)))


def lower_bound(bets: Bets, *, alpha: float) -> float:
    """Return a lower bound of the mean of all rows that holds at every look.

    Args:
        bets: on the rows drawn so far.
        alpha: probability, in (0, 1), that the bound is ever above the mean.

    Returns:
        the least mean that is not rejected after the last row, in [0, 1].
    """
    low = min(1.0, (bets.known_sum + float(bets.value.sum())) / bets.population)  # The rows that are left are >= 0.
    high, limit = 1.0, -np.log(alpha)
    if not len(bets.value) or log_capital(bets, low, alpha=alpha)[-1] < limit:
        return low
    for _ in range(STEPS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if log_capital(bets, middle, alpha=alpha)[-1] >= limit else (low, middle)
    return low


def upper_bound(bets: Bets, *, alpha: float) -> float:
    """Return an upper bound of the mean of all rows that holds at every look; as `lower_bound`."""
    return 1.0 - lower_bound(bets.complement(), alpha=alpha)
