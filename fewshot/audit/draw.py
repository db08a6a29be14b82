"""A random sample of predictions, drawn while they stream past.

Every row has two ranks, from a keyed hash of its image. The sample begins with the `FLOOR` rows of the lowest first
rank of each stratum that may otherwise have fewer rows in it, and goes on with the lowest second ranks of all other
rows. So

* of those that remain after the floor, the next row is always a random one: what `fewshot.audit.betting` needs. (With
  one rank, what remains of a stratum with a floor would have high ranks only, and come too late.)
* given how many rows of a stratum were drawn, they are a simple random sample of it, and each was included with the
  probability drawn / rows of the stratum: what `fewshot.audit.estimates` needs. Numbers drawn are proportional to
  those of the archive up to chance, which the weights take into account;
* a larger sample continues a smaller one, and neither depends on how rows are cut into parts or in which order parts
  come. Memory grows with the sample, the cells and their classes, not with the rows.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from fewshot.audit.guesses import Strata
from fewshot.audit.stratification import Cell, StratumRule, assign, bands_of, make_strata
from fewshot.errors import DataError

FLOOR = 2
"""Rows of a small stratum that are drawn before all others: fewer show no variance."""
ENOUGH = 15.0
"""Expected rows of the planned sample from which on a stratum needs no floor: five in a million have fewer than 2."""
THRESHOLDS = (*(i / 64 for i in range(64)), *(1.0 - 0.01 / 2**i for i in range(1, 14)))
"""Scores in ascending order from which on rows are counted, and thresholds are chosen."""
UNKNOWN = "unknown"
"""Status of a row whose image is predicted to be of no class."""
SCORE_UNIT = 2.0**-24
"""Scores are rounded to multiples of it, so that sums do not depend on their order."""


class DrawnRow(NamedTuple):
    """A row of the sample.

    Attributes:
        image: its key.
        source: the object that holds it; "" where it is an object itself.
        status: of its prediction.
        label: the most probable class.
        score: its probability; None where there is none.
        stratum: index of its stratum.
    """

    image: str
    source: str
    status: str
    label: str
    score: float | None
    stratum: int


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """A sample.

    Attributes:
        rules: the H strata.
        strata: what is known of all rows.
        labels: of each stratum, the number of rows by predicted class.
        reaching: for each of `THRESHOLDS`, the number of rows with such a score; those of no class are not counted.
        rows: in the order of the draw.
        floor: number of rows at the beginning that are the first of small strata.
    """

    rules: tuple[StratumRule, ...]
    strata: Strata
    labels: tuple[Mapping[str, int], ...]
    reaching: tuple[int, ...]
    rows: tuple[DrawnRow, ...]
    floor: int

    def predicted_counts(self, label: str) -> np.ndarray:
        """[H] int64, the rows of each stratum that are predicted to be of a class; none where they are of no class."""
        known = zip(self.rules, self.labels, strict=True)
        return np.array([0 if rule.status == UNKNOWN else labels.get(label, 0) for rule, labels in known], np.int64)

    def joined(self, count: int, *, across: bool = False) -> Draw:
        """Return the draw with strata of which too few rows are among the first `count` joined to others.

        Only strata without a floor are joined: their rows were drawn alike.

        Args:
            count: number of rows.
            across: join strata of labels given and withheld, too; otherwise only those of one status.
        """
        drawn = np.bincount([row.stratum for row in self.rows[:count]], minlength=len(self.rules))
        floored = {row.stratum for row in self.rows[: self.floor]}
        group, last = np.arange(len(self.rules)), dict[str, int]()
        for index, rule in enumerate(self.rules):
            if index in floored:
                continue
            kind = "" if across and rule.status != UNKNOWN else rule.status
            before = last.get(kind)
            if before is not None and min(drawn[group == before].sum(), drawn[index]) < FLOOR:
                group[index] = before
            last[kind] = int(group[index])
        kept, group = np.unique(group, return_inverse=True)
        return self._grouped(kept, group)

    def _grouped(self, kept: np.ndarray, group: np.ndarray) -> Draw:
        """The draw with the strata of each group as one, with the rules of those that are `kept`."""
        strata, count = self.strata, len(kept)
        labels = [Counter[str]() for _ in range(count)]
        for index, own in zip(group.tolist(), self.labels, strict=True):
            labels[index].update(own)
        ends = [
            np.array([end(values[group == index]) for index in range(count)])
            for end, values in ((np.min, strata.least_score), (np.max, strata.greatest_score))
        ]
        rows = np.bincount(group, strata.rows).astype(np.int64)
        return replace(
            self,
            rules=tuple(self.rules[index] for index in kept.tolist()),
            strata=Strata(rows, np.bincount(group, strata.score_sum), *ends),
            labels=tuple(dict(sorted(each.items())) for each in labels),
            rows=tuple(row._replace(stratum=int(group[row.stratum])) for row in self.rows),
        )

    def probabilities(self) -> np.ndarray:
        """[n] float64 in (0, 1], the probability with which each row was included, given the numbers drawn."""
        stratum = np.array([row.stratum for row in self.rows], dtype=np.int64)
        drawn = np.bincount(stratum, minlength=len(self.rules))
        return np.asarray((drawn / self.strata.rows)[stratum], dtype=float)


class _Candidate(NamedTuple):
    """A row that may be drawn."""

    first_rank: int
    rank: int
    image: str
    source: str
    status: str
    label: str
    score: float | None
    cell: Cell


@dataclass(slots=True)
class _Count:
    rows: int = 0
    units: int = 0
    least: float = np.inf
    greatest: float = -np.inf


class Sampler:
    """Draws a sample of rows that are added part by part.

    Args:
        key: of the hashes: another one gives another sample.
        size: number of rows to draw, > 0.
        planned: number of rows that the strata are made for, the size of the first sample that this one continues.
    """

    def __init__(self, *, key: str, size: int, planned: int | None = None) -> None:
        self._key = hashlib.blake2b(key.encode(), digest_size=32).digest()
        self._size, self._planned = size, planned or size
        self._lowest: list[_Candidate] = []
        self._first: defaultdict[Cell, list[_Candidate]] = defaultdict(list)
        self._counts: defaultdict[Cell, _Count] = defaultdict(_Count)
        self._reaching = np.zeros(len(THRESHOLDS), np.int64)

    def add(
        self,
        images: Sequence[str],
        sources: Sequence[str],
        statuses: Sequence[str],
        labels: Sequence[str],
        scores: np.ndarray,
        margins: np.ndarray,
    ) -> None:
        """Add a part.

        Args:
            images: n keys; together with `sources` no two are equal.
            sources: n objects that hold them.
            statuses: n statuses of predictions.
            labels: n predicted classes.
            scores: [n] float, in [0, 1]; NaN: there is none.
            margins: [n] float, the certainty where there is no score.
        """
        if not len(images):
            return
        is_scored = np.isfinite(scores)
        units = np.rint(np.clip(np.where(is_scored, scores, 0.0), 0.0, 1.0) / SCORE_UNIT).astype(np.int64)
        bands = bands_of(np.where(is_scored, scores, margins))
        cells = [Cell(*each) for each in zip(statuses, is_scored.tolist(), bands.tolist(), labels, strict=True)]
        counted = np.sort(scores[is_scored & (np.array(statuses) != UNKNOWN)])
        self._reaching += len(counted) - np.searchsorted(counted, THRESHOLDS)
        codes: dict[Cell, int] = {}
        code = np.array([codes.setdefault(cell, len(codes)) for cell in cells])
        self._count(list(codes), code, units)
        ranks = np.array([self._ranks(*each) for each in zip(images, sources, strict=True)], dtype=np.uint64)
        order = np.lexsort((ranks[:, 0], code))
        starts = np.searchsorted(code[order], np.arange(len(codes)))
        place = np.arange(len(order)) - starts[code[order]]
        near = set(order[place < FLOOR].tolist()) | set(self._low(ranks[:, 1]).tolist())
        found = [
            _Candidate(
                int(ranks[i, 0]),
                int(ranks[i, 1]),
                images[i],
                sources[i],
                statuses[i],
                labels[i],
                float(scores[i]) if is_scored[i] else None,
                cells[i],
            )
            for i in sorted(near)
        ]
        self._keep(found)

    def _ranks(self, image: str, source: str) -> tuple[int, int]:
        data = f"{source}\0{image}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(data, digest_size=16, key=self._key).digest()
        return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")

    def _low(self, ranks: np.ndarray) -> np.ndarray:
        """Positions of the ranks that may be among the lowest of all rows so far."""
        near = np.argsort(ranks, kind="stable")[: self._size]
        if len(self._lowest) == self._size:
            near = near[ranks[near] <= self._lowest[-1].rank]
        return near

    def _count(self, cells: Sequence[Cell], code: np.ndarray, units: np.ndarray) -> None:
        for index, cell in enumerate(cells):
            own, count = units[code == index], self._counts[cell]
            count.rows += len(own)
            count.units += int(own.sum())
            count.least = min(count.least, float(own.min() * SCORE_UNIT))
            count.greatest = max(count.greatest, float(own.max() * SCORE_UNIT))

    def _keep(self, found: Sequence[_Candidate]) -> None:
        self._lowest = sorted([*self._lowest, *found], key=_order)[: self._size]
        by_cell: defaultdict[Cell, list[_Candidate]] = defaultdict(list)
        for each in found:
            by_cell[each.cell].append(each)
        for cell, candidates in by_cell.items():
            self._first[cell] = sorted([*self._first[cell], *candidates], key=_first_order)[:FLOOR]

    def finish(self) -> Draw:
        """Return the sample: all rows if there are no more than `size`.

        Raises:
            DataError: there are no rows, or fewer can be drawn than the floor takes.
        """
        if not self._counts:
            raise DataError("there is nothing to draw from: no image has a prediction")
        rules = make_strata({cell: count.rows for cell, count in self._counts.items()}, planned=self._planned)
        stratum = assign(self._counts, rules)
        first: defaultdict[int, list[_Candidate]] = defaultdict(list)
        for cell, candidates in self._first.items():
            first[stratum[cell]] += candidates
        strata = self._strata(stratum, len(rules))
        small = np.flatnonzero(needs_floor(strata.rows, planned=self._planned)).tolist()
        floor = [each for index in small for each in sorted(first[index], key=_first_order)[:FLOOR]]
        if len(floor) > self._size:
            raise DataError(f"the sample must have {len(floor)} images at least, {FLOOR} of each small stratum")
        taken = {(each.source, each.image) for each in floor}
        others = [each for each in self._lowest if (each.source, each.image) not in taken]
        drawn = [*floor, *others[: self._size - len(floor)]]
        rows = [DrawnRow(*each[2:7], stratum[each.cell]) for each in drawn]
        return Draw(
            rules=rules,
            strata=strata,
            labels=self._labels(stratum, len(rules)),
            reaching=tuple(self._reaching.tolist()),
            rows=tuple(rows),
            floor=len(floor),
        )

    def _strata(self, stratum: Mapping[Cell, int], count: int) -> Strata:
        rows, units = np.zeros(count, np.int64), [0] * count
        least, greatest = np.full(count, np.inf), np.full(count, -np.inf)
        for cell, found in self._counts.items():
            index = stratum[cell]
            rows[index] += found.rows
            units[index] += found.units
            least[index], greatest[index] = min(least[index], found.least), max(greatest[index], found.greatest)
        return Strata(rows, np.array([each * SCORE_UNIT for each in units]), least, greatest)

    def _labels(self, stratum: Mapping[Cell, int], count: int) -> tuple[Mapping[str, int], ...]:
        found: list[defaultdict[str, int]] = [defaultdict(int) for _ in range(count)]
        for cell, counted in self._counts.items():
            found[stratum[cell]][cell.label] += counted.rows
        return tuple(dict(sorted(each.items())) for each in found)


def needs_floor(rows: np.ndarray, *, planned: int) -> np.ndarray:
    """Return which strata get a floor.

    Args:
        rows: [H] int64, of each stratum.
        planned: number of rows of the first sample.

    Returns:
        [H] bool.
    """
    return np.asarray(rows * planned < ENOUGH * rows.sum(), dtype=bool)


def _order(candidate: _Candidate) -> tuple[int, str, str]:
    return candidate.rank, candidate.source, candidate.image


def _first_order(candidate: _Candidate) -> tuple[int, str, str]:
    return candidate.first_rank, candidate.source, candidate.image
