"""What became of the test of images of no class."""

from __future__ import annotations

from dataclasses import dataclass

from ray_jobs.results.json_format import JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownTestPlan(JsonValue):
    """Whether there are enough examples for the test of images of no class, and what it costs.

    Attributes:
        rate: largest share of images of the classes that may be called unknown, in (0, 1).
        examples: different examples that images are compared with, at most.
        needed: the smallest number of examples among which an image can be unknown.
        lost: share of images of the classes that so many examples lose at most, in [0, rate]: a multiple of
            1 / (examples + 1).
    """

    rate: float
    examples: int
    needed: int
    lost: float

    @property
    def is_reachable(self) -> bool:
        """Whether an image can be unknown."""
        return self.examples >= self.needed

    def sentence(self) -> str:
        """Return how many examples the test takes, and what it may lose."""
        return (
            f"unknown_rate = {self.rate:g} takes at least {self.needed:,} examples, and there are {self.examples:,}:"
            f" at most {100 * self.lost:.2g} % of the images of the classes become unknown, if they are drawn like the"
            " examples"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredUnknown(JsonValue):
    """How good the test is, measured against given labels, on images that were read.

    Attributes:
        known_images: images whose given label is a class of the classifier.
        known_lost: share of them that are unknown, in [0, 1]; None if there are none.
        other_images: images whose given label is another class.
        others_found: share of them that are unknown, in [0, 1]; None if there are none.
    """

    known_images: int
    known_lost: float | None
    other_images: int
    others_found: float | None

    def sentence(self) -> str:
        """Return the shares that are unknown."""
        groups = (
            (self.known_lost, self.known_images, "images of the classes"),
            (self.others_found, self.other_images, "images of other classes"),
        )
        shares = (f"{100 * share:.1f} % of {count:,} {what}" for share, count, what in groups if share is not None)
        return f"Against the given labels, {' and '.join(shares)} are unknown."


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownImages(JsonValue):
    """The images of no class.

    Attributes:
        images: number of unknown images.
        rate: largest share of images of the classes that may be called unknown, in (0, 1).
        examples: different examples that images were compared with.
        needed: the smallest number of examples among which an image can be unknown.
        measured: how good the test is; None where no label of an image that was read is known.
    """

    images: int
    rate: float
    examples: int
    needed: int
    measured: MeasuredUnknown | None

    def sentence(self) -> str:
        """Return what the test promises and, where labels are given, what became of that."""
        if self.examples < self.needed:
            counts = f"takes at least {self.needed} examples, and there are {self.examples}"
            return f"No image can be unknown: unknown_rate = {self.rate:g} {counts}."
        promise = (
            f"Unknown images: at most {100 * self.rate:g} % of the images of the classes are among them, if these are"
            f" drawn like the {self.examples} examples."
        )
        return promise if self.measured is None else f"{promise} {self.measured.sentence()}"
