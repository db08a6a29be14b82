"""Guesses of the value of the next row, from the rows before it: what a confidence sequence need not bet on.

A guess is a line in the score, moved for each stratum: slope and offsets are fitted to the rows before, and the offset
of a stratum is drawn towards the common one, the more, the fewer of its rows are known. Whatever the guess is, its mean
over the rows that are left is known exactly, since the sums of the scores of all rows are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fewshot.audit.betting import Bets

PRIOR_ROWS = 4.0
"""Rows of a stratum that count as much as the common offset."""


@dataclass(frozen=True, slots=True, eq=False)
class Strata:
    """What is known of all rows, stratum by stratum.

    Attributes:
        rows: [H] int64, number of rows, >= 1.
        score_sum: [H] float64, sum of their scores.
        least_score: [H] float64.
        greatest_score: [H] float64.
    """

    rows: np.ndarray
    score_sum: np.ndarray
    least_score: np.ndarray
    greatest_score: np.ndarray

    @property
    def population(self) -> int:
        """Number of all rows, N."""
        return int(self.rows.sum())

    @property
    def weights(self) -> np.ndarray:
        """[H] float64, shares of the rows, of sum 1."""
        return np.asarray(self.rows / self.rows.sum(), dtype=float)

    @property
    def mean_score(self) -> np.ndarray:
        """[H] float64."""
        return np.asarray(self.score_sum / self.rows, dtype=float)

    def only(self, kept: np.ndarray) -> Strata:
        """Return those of the strata; `kept` is [H] bool."""
        return Strata(self.rows[kept], self.score_sum[kept], self.least_score[kept], self.greatest_score[kept])

    def reversed(self) -> Strata:
        """Return the strata for the scores 1 - score."""
        return Strata(self.rows, self.rows - self.score_sum, 1.0 - self.greatest_score, 1.0 - self.least_score)

    @classmethod
    def of_indicator(cls, rows: np.ndarray, ones: np.ndarray) -> Strata:
        """Return strata whose score is 1 for some rows and 0 for the others.

        Args:
            rows: [H] int64, number of rows.
            ones: [H] int64, of which so many have the score 1.
        """
        return cls(rows, ones.astype(float), (ones == rows).astype(float), (ones > 0).astype(float))


def guessed_bets(
    value: np.ndarray, score: np.ndarray, stratum: np.ndarray, strata: Strata, *, planned: float, known: int
) -> Bets:
    """Return bets with guesses.

    Args:
        value: [n] float64 in [0, 1], rows in the order of the draw.
        score: [n] float64.
        stratum: [n] int64 in [0, H).
        strata: of all rows.
        planned: number of rows that the bounds are to be narrow at, > 0.
        known: number of rows at the beginning that are not bet on, because they were not drawn like the others.

    Returns:
        bets on the other n - known rows.
    """
    member = stratum[:, None] == np.arange(len(strata.rows))  # [n, H]
    slope = np.concatenate([[0.0], _slopes(value, score)])[known : len(value)]  # Before each row.
    count, values, scores = (_cumulated(member * each[:, None], known) for each in (np.ones(len(value)), value, score))
    total = count.sum(axis=1)
    common = np.divide(
        values.sum(axis=1) - slope * scores.sum(axis=1), total, out=np.full(len(total), 0.5), where=total > 0
    )
    sums = values - slope[:, None] * scores - count * common[:, None]
    offset = common[:, None] + sums / (count + PRIOR_ROWS)  # [n - known, H]
    left, left_scores = strata.rows - count, strata.score_sum - scores
    mean = (left * offset + slope[:, None] * left_scores).sum(axis=1) / np.maximum(left.sum(axis=1), 1)
    least, greatest = (offset + slope[:, None] * bound for bound in (strata.least_score, strata.greatest_score))
    own = offset[np.arange(len(offset)), stratum[known:]] + slope * score[known:]
    return Bets(
        value=value[known:],
        guess=own,
        mean_guess=mean,
        least_guess=np.where(left > 0, least, np.inf).min(axis=1, initial=np.inf),
        greatest_guess=np.where(left > 0, greatest, -np.inf).max(axis=1, initial=-np.inf),
        planned=planned,
        population=strata.population,
        known=known,
        known_sum=float(value[:known].sum()),
    )


def slope_of(value: np.ndarray, score: np.ndarray) -> float:
    """Return how much of the scores to believe: the slope of the values on them, in [0, 1].

    A slope that is no larger than its standard error is 0, and others are shrunk accordingly: useless scores are left
    out.

    Args:
        value: [n] float64, centred.
        score: [n] float64, centred.
    """
    spread, common = float(score @ score), float(value @ score)
    return float(_shrunk(np.array(spread), np.array(common), np.array(float(value @ value)), np.array(len(value))))


def _shrunk(spread: np.ndarray, common: np.ndarray, variation: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Slopes, from sums of squares and products: positive part of (1 - 1 / t^2) times the least-squares slope."""
    raw = np.divide(common, spread, out=np.zeros_like(spread), where=spread > 1e-12)
    unexplained = np.maximum(variation - raw * common, 0.0) / np.maximum(count - 2, 1)
    explained = raw * common  # t^2 is this over what is unexplained.
    kept = np.divide(explained - unexplained, explained, out=np.zeros_like(spread), where=explained > 1e-12)
    return np.asarray(np.clip(raw * np.maximum(kept, 0.0), 0.0, 1.0), dtype=float)


def _slopes(value: np.ndarray, score: np.ndarray) -> np.ndarray:
    """[n], the slope after each row, of all rows so far."""
    count = np.arange(1, len(value) + 1, dtype=float)
    sums = [np.cumsum(each) for each in (value, score, value * value, score * score, value * score)]
    y, f, yy, ff, yf = sums
    return _shrunk(np.maximum(ff - f * f / count, 0.0), yf - y * f / count, np.maximum(yy - y * y / count, 0.0), count)


def _cumulated(rows: np.ndarray, known: int) -> np.ndarray:
    """[n - known, H], sums over the rows before each row from `known` on."""
    return np.vstack([np.zeros(rows.shape[1]), np.cumsum(rows, axis=0)])[known : len(rows)]
