"""Draws in an output: `audits/<draw>/draw.json`, and a sample for each size, `audits/<draw>/sample-<images>.json`.

The draw is created once, whoever comes first; samples follow from it and the run alone. So audits at the same time
write the same objects, and a larger sample continues a smaller one.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cluster import Store
from fewshot.audit import Draw, DrawnRow, Strata, StratumRule
from ray_jobs.output.layout import AUDITS
from ray_jobs.results.json_format import JsonDocument, JsonValue

DRAW, SAMPLE = "draw.json", "sample-"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDraw(JsonDocument):
    """What determines the samples of a draw.

    Attributes:
        run: name of the run.
        classifier: fingerprint of its classifier.
        archive: identity of the archive.
        seed: of the draw.
        planned: number of images of the first sample, which the strata are made for.
        learned_from: keys of images that the classifier learned from, in ascending order.
        notes: sentences about what could not be found out.
    """

    format_version: ClassVar[int] = 1
    run: str
    classifier: str
    archive: str
    seed: int
    planned: int
    learned_from: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """ID of the draw."""
        return draw_name(self.run, self.seed)

    @property
    def key(self) -> str:
        """What the ranks of the images are hashed with."""
        return f"{self.seed} {self.run}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredStratum(JsonValue):
    """A stratum; see `StratumRule` and `Strata`.

    Attributes:
        images: number of images.
        drawn: how many of them were drawn: each with the probability drawn / images.
        score_sum: sum of their scores.
        least_score: 0 where there is none.
        greatest_score: likewise.
        labels: number of images by predicted class.
    """

    status: str
    is_scored: bool
    first_band: int
    last_band: int
    label: str | None
    images: int
    drawn: int
    score_sum: float
    least_score: float
    greatest_score: float
    labels: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage(JsonValue):
    """An image of a sample; see `DrawnRow`.

    Attributes:
        probability: with which it was drawn, in (0, 1].
    """

    image: str
    source: str
    status: str
    label: str
    score: float | None
    stratum: int
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSample(JsonDocument):
    """A sample of a run, with all that estimates need.

    Attributes:
        draw: ID of the draw.
        unreadable: images of the archive without a prediction.
        learned_from: images of the archive that the classifier learned from.
        floor: images at the beginning that are the first of their strata.
        strata: of the images that remain.
        reaching: numbers of images with at least the scores `fewshot.audit.draw.THRESHOLDS`.
        images: in the order of the draw.
    """

    format_version: ClassVar[int] = 1
    draw: str
    unreadable: int
    learned_from: int
    floor: int
    strata: tuple[StoredStratum, ...]
    reaching: tuple[int, ...]
    images: tuple[StoredImage, ...]

    @property
    def population(self) -> int:
        """Number of images that could be drawn."""
        return sum(stratum.images for stratum in self.strata)

    @classmethod
    def from_draw(cls, draw: Draw, *, name: str, unreadable: int, learned_from: int) -> StoredSample:
        """Return a sample that was drawn."""
        drawn = np.bincount([row.stratum for row in draw.rows], minlength=len(draw.rules)).tolist()
        known = draw.strata
        columns = (known.rows, drawn, known.score_sum, known.least_score, known.greatest_score)
        strata = [
            StoredStratum(
                status=rule.status,
                is_scored=rule.is_scored,
                first_band=rule.first_band,
                last_band=rule.last_band,
                label=rule.label,
                images=int(rows),
                drawn=int(count),
                score_sum=float(total),
                least_score=float(least),
                greatest_score=float(greatest),
                labels=dict(labels),
            )
            for rule, labels, rows, count, total, least, greatest in zip(draw.rules, draw.labels, *columns, strict=True)
        ]
        probabilities = draw.probabilities().tolist()
        images = [StoredImage(**row._asdict(), probability=p) for row, p in zip(draw.rows, probabilities, strict=True)]
        return cls(
            draw=name,
            unreadable=unreadable,
            learned_from=learned_from,
            floor=draw.floor,
            strata=tuple(strata),
            reaching=draw.reaching,
            images=tuple(images),
        )

    def to_draw(self) -> Draw:
        """Return what was drawn."""
        names = ("status", "is_scored", "first_band", "last_band", "label")
        numbers = ("images", "score_sum", "least_score", "greatest_score")
        return Draw(
            rules=tuple(StratumRule(**{name: getattr(each, name) for name in names}) for each in self.strata),
            strata=Strata(*(np.array([getattr(each, name) for each in self.strata]) for name in numbers)),
            labels=tuple(each.labels for each in self.strata),
            reaching=self.reaching,
            rows=tuple(DrawnRow(*(getattr(each, name) for name in DrawnRow._fields)) for each in self.images),
            floor=self.floor,
        )


def draw_name(run: str, seed: int) -> str:
    """Return the ID of the draw of a run."""
    return f"{run}-{seed}"


def draw_folder(name: str) -> str:
    """Return the folder of a draw in an output."""
    return f"{AUDITS}/{name}"


def sample_path(name: str, images: int) -> str:
    """Return the path of the sample of a size."""
    return f"{draw_folder(name)}/{SAMPLE}{images}.json"


def find_draw(store: Store, name: str) -> StoredDraw | None:
    """Return a draw; None if there is none.

    Raises:
        FormatError: it is damaged, or from a newer version.
        StorageError: storage does not respond.
    """
    path = f"{draw_folder(name)}/{DRAW}"
    try:
        return StoredDraw.from_json(store.get(path), where=store.url(path))
    except FileNotFoundError:
        return None


def create_draw(store: Store, draw: StoredDraw) -> StoredDraw:
    """Store a draw, and return it, or the one that another process stored before.

    Raises:
        FormatError, StorageError: as `find_draw`.
    """
    store.put_if_absent(f"{draw_folder(draw.name)}/{DRAW}", draw.to_bytes())
    return find_draw(store, draw.name) or draw


def sample_sizes(store: Store, name: str) -> list[int]:
    """Return the sizes of the samples of a draw, in ascending order."""
    names = (posixpath.basename(path).removesuffix(".json") for path in store.list(draw_folder(name)))
    sizes = (each.removeprefix(SAMPLE) for each in names if each.startswith(SAMPLE))
    return sorted(int(each) for each in sizes if each.isdecimal())


def find_sample(store: Store, path: str) -> StoredSample | None:
    """Return the sample at a path; None if there is none. Raises as `find_draw`."""
    try:
        return StoredSample.from_json(store.get(path), where=store.url(path))
    except FileNotFoundError:
        return None
