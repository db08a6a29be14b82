"""Which labels changed between two classifications of an archive, as it is stored and printed as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ray_jobs.results.classification_metrics import Status
from ray_jobs.results.json_format import JsonDocument, JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRun(JsonValue):
    """One of the two runs.

    Attributes:
        run: its name.
        version: number of its classifier in the registry of the job; None if it is in none.
        images: number of its images.
    """

    run: str
    version: int | None
    images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlippedPair(JsonValue):
    """Images of one class that got another one.

    Attributes:
        before: the former class, by its present name.
        after: the present class.
        images: number of these images.
    """

    before: str
    after: str
    images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange(JsonValue):
    """Images whose label is withheld now or was before, and not for the same reason.

    Attributes:
        before: status in the former run.
        after: status in the present run.
        images: number of these images.
    """

    before: Status
    after: Status
    images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassChurn(JsonValue):
    """Images that have, or had, the label of a class; withheld labels are none.

    Attributes:
        label: the class, by its present name.
        kept: number of images that had the label and have it still.
        gained: number of images that have it now and did not before.
        lost: number of images that had it before and do not now.
    """

    label: str
    kept: int
    gained: int
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFlips(JsonValue):
    """Flipped images whose labels people gave.

    Attributes:
        right: number of images whose label was wrong and is right now.
        wrong: number of images whose label was right and is wrong now.
        neither: number of images whose labels are both wrong.
    """

    right: int = 0
    wrong: int = 0
    neither: int = 0

    @property
    def images(self) -> int:
        """Number of all of them."""
        return self.right + self.wrong + self.neither


@dataclass(frozen=True, slots=True, kw_only=True)
class FlippedImage(JsonValue):
    """A flipped image of the sample.

    Attributes:
        image: its key.
        before: the former class, by its present name.
        after: the present class.
        before_score: calibrated probability of the former class; None where there is none.
        after_score: likewise.
    """

    image: str
    before: str
    after: str
    before_score: float | None
    after_score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Churn(JsonDocument):
    """Which labels changed between two classifications of an archive.

    An image *flipped* if both runs gave it a label, and another one, a class with a new name being the same class.

    Attributes:
        job: name of the job of the present run.
        before: the former run.
        after: the present run.
        renamed: pairs of the former and the present name of a class.
        images: number of images that were compared: those that both runs could read.
        flipped: number of them that flipped.
        share: of the compared images that flipped, in [0, 1].
        to_new_classes: number of flipped images with a class that the former run did not know.
        new_classes: these classes, in label order.
        removed_classes: classes that the present run does not know, by their present names, in label order.
        withheld: images whose label is withheld now or was before, not for the same reason; none of them flipped.
        unreadable: number of images that are in both runs, and that at least one could not read.
        new: number of images that only the present run has.
        gone: number of images that only the former run has.
        pairs: the most frequent first, then by name.
        more_pairs: number of less frequent pairs, which are not listed.
        classes: all classes that had or have a label, by name.
        known: flipped images whose labels people gave, and that no classifier learned from; None if the labels of
            people could not be read.
        learned: flipped images that a classifier learned from, so that they say little; None likewise.
        sample: some of the flipped images, by pair; which ones depends on their keys alone.
    """

    format_version: ClassVar[int] = 1
    job: str
    before: ComparedRun
    after: ComparedRun
    renamed: tuple[tuple[str, str], ...]
    images: int
    flipped: int
    share: float
    to_new_classes: int
    new_classes: tuple[str, ...]
    removed_classes: tuple[str, ...]
    withheld: tuple[StatusChange, ...]
    unreadable: int
    new: int
    gone: int
    pairs: tuple[FlippedPair, ...]
    more_pairs: int
    classes: tuple[ClassChurn, ...]
    known: KnownFlips | None
    learned: KnownFlips | None
    sample: tuple[FlippedImage, ...]

    def sentence(self) -> str:
        """Say how many labels changed."""
        verb = "label" if self.images == 1 else "labels"
        return f"{self.flipped:,} of {self.images:,} {verb} changed ({_percent(self.share)})"


def _percent(share: float) -> str:
    """Return a share as a percentage that is 0 or 100 only where the share is 0 or 1."""
    bounded = share if share in (0.0, 1.0) else min(max(share, 0.001), 0.999)
    less = "<" if 0.0 < share < 0.0005 else ">" if 0.9995 < share < 1.0 else ""
    return f"{less}{100 * bounded:.1f}\u00a0%"
