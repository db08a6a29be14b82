"""Counts of what became of every label, and some of the flipped images, from rows that stream by.

What is kept is bounded by the pairs of classes that occur, not by the images.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_jobs.churn.paired_rows import WITHHELD, PairedRows
from ray_jobs.results.churn_result import ClassChurn, FlippedImage, FlippedPair, KnownFlips, StatusChange
from ray_jobs.results.classification_metrics import Status
from ray_jobs.suggestion.hash_sample import hash_rank

OF_A_PAIR, SAMPLED = 12, 200
"""Images of the sample: of one pair of classes, and of all pairs together, at most."""
BATCH = 1 << 16
"""Flipped images that are collected before those of the sample are chosen anew."""
_SPAN = 1 << 31
"""More than there are codes."""
_READABLE: tuple[Status, ...] = ("ok", "abstained", "unknown")


@dataclass(frozen=True, slots=True)
class SampledFlip:
    """A flipped image of the sample.

    Attributes:
        flip: what is stored of it.
        part: number of the part of the present run that has it.
        row: position there.
    """

    flip: FlippedImage
    part: int
    row: int


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How often which outcome became which.

    Attributes:
        names: class names by code.
        images: number of images by the codes of both outcomes, see `ray_jobs.churn.paired_rows`.
    """

    names: Sequence[str]
    images: Mapping[tuple[int, int], int]

    @property
    def total(self) -> int:
        """Number of images that are in both runs."""
        return sum(self.images.values())

    @property
    def unreadable(self) -> int:
        """Number of images that at least one run could not read; all others are compared."""
        return sum(count for codes, count in self.images.items() if WITHHELD["unreadable"] in codes)

    @property
    def compared(self) -> int:
        """Number of images that both runs could read."""
        return self.total - self.unreadable

    def pairs(self) -> list[FlippedPair]:
        """Return the pairs of classes between which images flipped, the most frequent first, then by name."""
        found = [
            FlippedPair(before=self.names[before], after=self.names[after], images=count)
            for (before, after), count in self.images.items()
            if before != after and min(before, after) >= 0
        ]
        return sorted(found, key=lambda pair: (-pair.images, pair.before, pair.after))

    def status_changes(self) -> tuple[StatusChange, ...]:
        """Return how many images changed their status, in the order of the statuses; those that occur."""
        counts = Counter[tuple[Status, Status]]()
        for codes, count in self.images.items():
            before, after = map(_status, codes)
            counts[before, after] += count
        return tuple(
            StatusChange(before=before, after=after, images=counts[before, after])
            for before, after in product(_READABLE, repeat=2)
            if before != after and counts[before, after]
        )

    def classes(self) -> tuple[ClassChurn, ...]:
        """Return what became of each class, by name."""
        kept, gained, lost = Counter[int](), Counter[int](), Counter[int]()
        for (before, after), count in self.images.items():
            if WITHHELD["unreadable"] in (before, after):
                continue
            if before == after:
                kept[before] += count
            else:
                lost[before] += count
                gained[after] += count
        occurring = sorted((self.names[code], code) for code in {*kept, *gained, *lost} if code >= 0)
        return tuple(
            ClassChurn(label=name, kept=kept[code], gained=gained[code], lost=lost[code]) for name, code in occurring
        )


@dataclass
class ChurnCounter:
    """Counts rows as they come.

    Attributes:
        known: by key, the labels that people gave; None for an image of no class. Counted for flipped images alone.
        learned: keys of images that a classifier learned from.
        of_known: flipped images with known labels that no classifier learned from: right now, wrong now, neither.
        of_learned: those that one learned from, likewise.
    """

    known: Mapping[str, str | None]
    learned: Collection[str]
    of_known: Counter[str] = field(default_factory=Counter)
    of_learned: Counter[str] = field(default_factory=Counter)
    _images: Counter[int] = field(default_factory=Counter)
    _sample: _FlipSample = field(default_factory=lambda: _FlipSample())

    def add(self, rows: PairedRows, names: Sequence[str]) -> None:
        """Count rows.

        Args:
            rows: that were not counted yet.
            names: class names by code, those of these rows at least.
        """
        pairs = _joined(rows.before, rows.after)
        self._images.update(dict(zip(*(each.tolist() for each in np.unique(pairs, return_counts=True)), strict=True)))
        flipped = np.flatnonzero((rows.before != rows.after) & (np.minimum(rows.before, rows.after) >= 0))
        if len(flipped):
            images = rows.images.take(pa.array(flipped)).to_pylist()
            self._sample.add(rows, flipped, images)
            self._count_known(rows, flipped, images, names)

    def _count_known(
        self, rows: PairedRows, flipped: NDArray[np.int64], images: Sequence[str], names: Sequence[str]
    ) -> None:
        for image, row in zip(images, flipped.tolist(), strict=True):
            if image in self.known:
                given = self.known[image]
                counts = self.of_learned if image in self.learned else self.of_known
                is_right, was_right = names[rows.after[row]] == given, names[rows.before[row]] == given
                counts["right" if is_right else "wrong" if was_right else "neither"] += 1

    def outcomes(self, names: Sequence[str]) -> Outcomes:
        """Return the counts; `names` are those of all codes."""
        return Outcomes(names, {_split(pair): count for pair, count in self._images.items()})

    def known_flips(self) -> tuple[KnownFlips, KnownFlips]:
        """Return what became of flipped images with known labels: not learned from, and learned from."""
        return KnownFlips(**self.of_known), KnownFlips(**self.of_learned)

    def sample(self, names: Sequence[str], pairs: Iterable[FlippedPair]) -> list[SampledFlip]:
        """Return some flipped images, of the most frequent pairs.

        Args:
            names: class names by code.
            pairs: of all flipped images, the most frequent first.
        """
        return self._sample.chosen(names, pairs)


@dataclass
class _FlipSample:
    """Of each pair of classes, the flipped images whose keys have the lowest hashes."""

    kept: list[pa.Table] = field(default_factory=list)
    collected: int = 0

    def add(self, rows: PairedRows, flipped: NDArray[np.int64], images: Sequence[str]) -> None:
        columns = {
            "image": pa.array(images, pa.string()),
            "hash": pa.array(list(map(hash_rank, images)), pa.uint64()),
            "pair": pa.array(_joined(rows.before, rows.after)[flipped]),
        }
        columns |= {name: pa.array(getattr(rows, name)[flipped]) for name in (*_SCORES, "part", "row")}
        self.kept.append(pa.table(columns))
        self.collected += len(flipped)
        if self.collected >= BATCH:
            self.kept, self.collected = [self._lowest()], 0

    def _lowest(self) -> pa.Table:
        """Return the rows of each pair with the lowest hashes, by pair and hash."""
        table = pa.concat_tables(self.kept).combine_chunks()
        pair = table["pair"].to_numpy()
        place = np.lexsort((table["row"].to_numpy(), table["part"].to_numpy(), table["hash"].to_numpy(), pair))
        starts = np.flatnonzero(np.diff(pair[place], prepend=-1))
        rank = np.arange(len(place)) - np.repeat(starts, np.diff(starts, append=len(place)))
        return table.take(pa.array(place[rank < OF_A_PAIR]))

    def chosen(self, names: Sequence[str], pairs: Iterable[FlippedPair]) -> list[SampledFlip]:
        of_pair: defaultdict[tuple[str, str], list[SampledFlip]] = defaultdict(list)
        for row in self._lowest().to_pylist() if self.kept else ():
            before, after = (names[code] for code in _split(row["pair"]))
            scores = {name: None if math.isnan(row[name]) else row[name] for name in _SCORES}
            flip = FlippedImage(image=row["image"], before=before, after=after, **scores)
            of_pair[before, after].append(SampledFlip(flip, row["part"], row["row"]))
        found: list[SampledFlip] = []
        for pair in pairs:
            found += of_pair[pair.before, pair.after][: SAMPLED - len(found)]
            if len(found) == SAMPLED:
                break
        return found


_SCORES = ("before_score", "after_score")


def _joined(before: NDArray[np.int64], after: NDArray[np.int64]) -> NDArray[np.int64]:
    """[n] int64 >= 0, a number for each pair of codes."""
    return (before - min(WITHHELD.values())) * _SPAN + (after - min(WITHHELD.values()))


def _split(pair: int) -> tuple[int, int]:
    """Return the codes of a pair."""
    before, after = divmod(pair, _SPAN)
    return before + min(WITHHELD.values()), after + min(WITHHELD.values())


def _status(code: int) -> Status:
    return next((status for status, each in WITHHELD.items() if each == code), "ok")
