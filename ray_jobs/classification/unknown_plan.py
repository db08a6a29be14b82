"""The test of images of no class in a job: what it takes, what it is named after, and the examples that it needs.

Every class must have an example. An image of a class with a name alone has none near it and would be lost, at a rate
that nothing bounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from cluster import Store
from cluster.errors import ClusterError
from ray_jobs.classification.labelled_shares import rounded_up
from ray_jobs.errors import DamagedError, JobError
from ray_jobs.inputs.class_warnings import first_few
from ray_jobs.inputs.example_blocks import Examples
from ray_jobs.job_file.sections import ClassifierSection
from ray_jobs.output.classifiers import ClassifierRef
from ray_jobs.output.known_examples import identify_known_examples, put_known_examples
from ray_jobs.output.layout import UNKNOWN_TEST
from ray_jobs.report.markup import plural
from ray_jobs.results.unknown_images import UnknownTestPlan
from ray_jobs.steps.train import read_labelled

UNKNOWN_VERSION = 1
"""Part of what names predictions with unknown images: raised when equal examples give other p-values."""


@dataclass(frozen=True, slots=True)
class UnknownPlan:
    """The test of a job.

    Attributes:
        rate: largest share of images of the classes that may be called unknown, in (0, 1).
        examples: different examples that images are compared with, as far as they can be read.
        digest: of the file of the examples of a stored classifier; None for the examples of the job.
    """

    rate: float
    examples: int
    digest: str | None = None

    @property
    def needed(self) -> int:
        """The smallest number of examples among which an image can be unknown."""
        return fewest_examples(self.rate)

    @property
    def identity(self) -> list[object]:
        """What names predictions with this test, beside their classifier."""
        return ["unknown", UNKNOWN_VERSION, self.rate, *([] if self.digest is None else [self.digest])]

    def summary(self) -> UnknownTestPlan:
        """Return what a plan tells of the test."""
        ranks = self.examples + 1
        lost = math.floor(round(self.rate * ranks, 9)) / ranks  # As `fewshot.conformal.rejected_ranks` rounds.
        return UnknownTestPlan(rate=self.rate, examples=self.examples, needed=self.needed, lost=lost)

    @property
    def warning(self) -> str | None:
        """Say that no image can be unknown, and what to do; None if there are enough examples."""
        if self.examples >= self.needed:
            return None
        reachable = rounded_up(1.0 / (self.examples + 1))
        raised = "" if reachable is None else f", or raise unknown_rate to {reachable}"
        return (
            f"unknown_rate = {self.rate:g} needs at least {plural(self.needed, 'example')}, and there are"
            f" {self.examples:,}: no image can be unknown. Add examples{raised}."
        )


def fewest_examples(rate: float) -> int:
    """Return the smallest number of examples among which an image can be unknown, where `rate` may be lost.

    Args:
        rate: in (0, 1).
    """
    fewest = max(0, math.floor(1.0 / rate) - 2)
    while round(rate * (fewest + 1), 9) < 1.0:  # As `fewshot.conformal.rejected_ranks` rounds.
        fewest += 1
    return fewest


def plan_unknown(
    section: ClassifierSection, support: Examples | None, stored: ClassifierRef | None
) -> UnknownPlan | None:
    """Return the test of a job; None if no image is tested.

    Args:
        section: the job's [classifier].
        support: the examples; None where a stored classifier needs none.
        stored: the stored classifier; None if one is trained.

    Raises:
        JobError: a class has no example, or the stored classifier comes without examples to compare images with.
    """
    if section.lost_rate is None:
        return None
    if stored is not None:
        return UnknownPlan(section.lost_rate, *check_known_examples(stored))
    if support is None:
        return None
    check_every_class(support.labels.counts)
    return UnknownPlan(section.lost_rate, len(support.contents))


def check_every_class(examples: Mapping[str, int]) -> None:
    """Check that every class has an example.

    Args:
        examples: number of examples of each class.

    Raises:
        JobError: one has none.
    """
    if without := [name for name, count in examples.items() if not count]:
        problem = f"classifier.unknown compares images with examples, and there is none of {first_few(without)}"
        remedy = "Add an example of each class, or remove unknown."
        raise JobError([f"{problem}: their images would be unknown. {remedy}"])


def check_known_examples(stored: ClassifierRef) -> tuple[int, str]:
    """Return the number of the examples beside a stored classifier, and the digest of their file.

    Raises:
        JobError: there are none, or they are damaged.
    """
    try:
        return identify_known_examples(stored.store, stored.folder)
    except FileNotFoundError as error:
        problem = f"the classifier {stored.url} has no {UNKNOWN_TEST}, the examples that images are compared with"
        remedy = "Run the job that trained it with classifier.unknown = true, and name or copy the whole folder."
        raise JobError([f"{problem}. {remedy} Nothing is trained again."]) from error
    except (ClusterError, OSError, DamagedError) as error:
        raise JobError([f"the examples of classifier.unknown: {error}"]) from error


def keep_known_examples(store: Store, classifier: ClassifierRef, support: Examples) -> None:
    """Store the examples beside their classifier, unless they are there; those that are damaged are made anew.

    Args:
        store: the output.
        classifier: a classifier of the output.
        support: the examples that it was trained from, with features.
    """
    with suppress(FileNotFoundError, DamagedError):
        identify_known_examples(store, classifier.folder)
        return
    _, images = read_labelled(store, support.find(store))
    put_known_examples(store, classifier.folder, images)
