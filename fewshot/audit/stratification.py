"""Strata of an archive: images that a classifier treats alike, from which an audit draws.

Predictions are counted in `Cell`s (status, one of `BANDS` bands of certainty, class), which follow from a row alone.
Cells are joined to as many strata as an audit of a planned size can fill: those of each status apart; bands cut where
the cumulated square root of their numbers is even (Dalenius and Hodges 1959, JASA 54); classes with many rows in a band
by themselves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

BANDS = 64
"""Equal-width bands of certainty."""
ROWS_A_STRATUM = 20
"""Rows of the planned audit for each stratum."""
MOST_BANDS = 5
"""More hardly narrow an interval (Cochran 1977, Sampling Techniques, 5A.8)."""
ROWS_OF_A_CLASS = 15
"""Expected rows of the planned audit that make a class in a band a stratum."""


class Cell(NamedTuple):
    """What is counted together.

    Attributes:
        status: of the prediction.
        is_scored: whether it has a score; the band is that of its margin otherwise.
        band: of the certainty, in [0, BANDS).
        label: the predicted class.
    """

    status: str
    is_scored: bool
    band: int
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StratumRule:
    """Which cells are in a stratum.

    Attributes:
        status: of the predictions.
        is_scored: whether they have a score.
        first_band: the lowest band.
        last_band: the highest band.
        label: the predicted class; None: all classes that have no stratum of their own in these bands.
    """

    status: str
    is_scored: bool
    first_band: int
    last_band: int
    label: str | None

    def name(self) -> str:
        """Return the stratum in words: "ok, score 0.50 to 0.75, class cat"."""
        what = "score" if self.is_scored else "margin"
        bounds = f"{self.first_band / BANDS:.2f} to {(self.last_band + 1) / BANDS:.2f}"
        return f"{self.status}, {what} {bounds}" + ("" if self.label is None else f", class {self.label}")


def bands_of(certainty: np.ndarray) -> np.ndarray:
    """Return the band of each certainty.

    Args:
        certainty: [n] float; values outside [0, 1] count as its ends, NaN as 0.

    Returns:
        [n] int64 in [0, BANDS).
    """
    places = np.clip(np.nan_to_num(certainty, nan=0.0), 0.0, 1.0) * BANDS
    return np.asarray(np.minimum(places, BANDS - 1), dtype=np.int64)


def make_strata(cells: Mapping[Cell, int], *, planned: int) -> tuple[StratumRule, ...]:
    """Return the strata for an audit.

    Args:
        cells: number of rows of each.
        planned: number of rows that are to be drawn, > 0.

    Returns:
        about planned / `ROWS_A_STRATUM` strata, at least one for each status, none of them empty.
    """
    total, budget = sum(cells.values()), planned // ROWS_A_STRATUM
    groups: defaultdict[tuple[str, bool], dict[Cell, int]] = defaultdict(dict)
    for cell, rows in cells.items():
        groups[cell.status, cell.is_scored][cell] = rows
    fewest = ROWS_OF_A_CLASS * total / planned
    return tuple(
        rule
        for _, group in sorted(groups.items())
        for rule in _of_group(group, max(1, round(budget * sum(group.values()) / total)), fewest)
    )


def assign(cells: Iterable[Cell], rules: Sequence[StratumRule]) -> dict[Cell, int]:
    """Return the stratum of each cell, as an index into the rules."""
    own: dict[tuple[str, bool, int, str | None], int] = {
        (rule.status, rule.is_scored, band, rule.label): index
        for index, rule in enumerate(rules)
        for band in range(rule.first_band, rule.last_band + 1)
    }
    return {cell: own[place] if (place := (*cell[:3], cell.label)) in own else own[(*cell[:3], None)] for cell in cells}


def _of_group(cells: Mapping[Cell, int], budget: int, fewest: float) -> list[StratumRule]:
    """Strata of one status: bands first, then the largest classes of a band, as far as the budget goes."""
    status, is_scored = next(iter(cells))[:2]
    rows = np.zeros(BANDS)
    for cell, count in cells.items():
        rows[cell.band] += count
    ranges = _ranges(rows, min(budget, MOST_BANDS))
    labels: defaultdict[tuple[tuple[int, int], str], int] = defaultdict(int)
    for cell, count in cells.items():
        labels[next(bands for bands in ranges if bands[0] <= cell.band <= bands[1]), cell.label] += count
    large = sorted((-count, key) for key, count in labels.items() if count >= fewest)
    apart = {key for _, key in large[: budget - len(ranges)]}
    others = {bands for bands, label in labels if (bands, label) not in apart}
    found = [*apart, *((bands, None) for bands in others)]
    return [
        StratumRule(status=status, is_scored=is_scored, first_band=bands[0], last_band=bands[1], label=label)
        for bands, label in sorted(found, key=lambda each: (each[0], each[1] is None, each[1] or ""))
    ]


def _ranges(rows: np.ndarray, count: int) -> list[tuple[int, int]]:
    """At most so many ranges of bands, first and last, none without rows, that together are all bands."""
    roots = np.cumsum(np.sqrt(rows))
    place = np.minimum((roots - np.sqrt(rows) / 2) / roots[-1] * count, count - 1).astype(int)
    kept = [int(part) for part in np.unique(place[rows > 0])]
    first = [int(np.flatnonzero((place == part) & (rows > 0))[0]) for part in kept]
    return list(zip([0, *first[1:]], [*(band - 1 for band in first[1:]), len(rows) - 1], strict=True))
