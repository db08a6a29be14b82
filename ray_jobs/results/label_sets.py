"""What label sets take, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass

from ray_jobs.results.json_format import JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSetPlan(JsonValue):
    """Whether there are enough examples for label sets, and what these cost.

    Attributes:
        label_set_error: probability with which a set may lack the true label, in (0, 1).
        examples: number of examples, at most.
        needed: the smallest number with which a set can lack any class.
        cpu_hours: CPU-hours that all images take, about; None where their number is not known.
    """

    label_set_error: float
    examples: int
    needed: int
    cpu_hours: float | None

    @property
    def is_reachable(self) -> bool:
        """Whether a set can lack any class."""
        return self.examples >= self.needed


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSetSummary(JsonValue):
    """The label sets of an archive.

    Attributes:
        label_set_error: probability with which a set may lack the true label, in (0, 1).
        examples: number of examples that the sets were made with.
        images: images with a set: those that were read.
        mean_size: mean number of labels of a set; None without any set.
        single: sets of exactly one label.
        labelled: of these, those whose label is the classifier's, which is then given.
        empty: sets without a label.
        full: sets of all classes.
        known: images with a set whose true label was given and is a class of the classifier.
        containing: share of these whose set contains it, in [0, 1]; None if there are none.
    """

    label_set_error: float
    examples: int
    images: int
    mean_size: float | None
    single: int
    labelled: int
    empty: int
    full: int
    known: int
    containing: float | None
