"""Counts of images of no class: how many are unknown and, where labels are given, how many of them rightly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ray_jobs.classification.unknown_plan import UnknownPlan
from ray_jobs.results.unknown_images import MeasuredUnknown, UnknownImages


@dataclass(slots=True)
class UnknownCounts:
    """Images that were read and whose label is given.

    Attributes:
        known: images of a class of the classifier.
        known_lost: of these, unknown ones.
        others: images of another class.
        others_found: of these, unknown ones.
    """

    known: int = 0
    known_lost: int = 0
    others: int = 0
    others_found: int = 0

    def add(self, rows: Iterable[tuple[int | None, str]]) -> None:
        """Count rows: the given label, -1 for another class and None where none is given, and the status."""
        for label, status in rows:
            if label is None or status == "unreadable":
                continue
            if label >= 0:
                self.known += 1
                self.known_lost += status == "unknown"
            else:
                self.others += 1
                self.others_found += status == "unknown"

    @property
    def measured(self) -> MeasuredUnknown | None:
        """How good the test is; None where no label is given."""
        if not self.known + self.others:
            return None
        return MeasuredUnknown(
            known_images=self.known,
            known_lost=self.known_lost / self.known if self.known else None,
            other_images=self.others,
            others_found=self.others_found / self.others if self.others else None,
        )

    def summary(self, plan: UnknownPlan | None, *, images: int) -> UnknownImages | None:
        """Return what became of the test; None without one.

        Args:
            plan: the test.
            images: number of unknown images.
        """
        if plan is None:
            return None
        return UnknownImages(
            images=images, rate=plan.rate, examples=plan.examples, needed=plan.needed, measured=self.measured
        )
