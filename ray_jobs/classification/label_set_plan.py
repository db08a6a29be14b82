"""What label sets take: enough examples, not too many of them and of classes, and time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from cluster.errors import ClusterError
from ray_jobs.errors import JobError
from ray_jobs.inputs.class_warnings import MIN_EXAMPLES
from ray_jobs.output.classifiers import ClassifierRef
from ray_jobs.output.label_set_examples import examples_digest
from ray_jobs.results.label_sets import LabelSetPlan

MAX_PAIRS = 2**25
"""Most pairs of an example and a class: an image is compared with every pair, and more would take 2 GiB of a worker."""
SECONDS_A_PAIR = 2e-8
"""CPU time that an image takes for a pair; measured 0.7e-8 to 3.8e-8, the most with very few and with very many."""
LONG_S = 60.0
"""CPU time of label sets above which workers make them."""
MANY_HOURS = 10.0
"""CPU-hours of label sets that a user should know of."""
ONE_EXAMPLE = (
    "no class has two examples: nothing can be measured on them, and nearly every label set will have all classes. Add "
    "examples"
)


def check_pairs(*, examples: int, classes: int) -> None:
    """Check that label sets can be made.

    Args:
        examples: N, at most.
        classes: K.

    Raises:
        JobError: there is no example, or there are too many pairs.
    """
    if not examples:
        raise JobError(["[classifier] guarantee: label sets take examples, and there are class names alone"])
    if examples * classes > MAX_PAIRS:
        most, pairs = MAX_PAIRS // classes**2, examples * classes
        advice = f"set support.shots = {most}" if most else "label sets cannot be had for so many classes"
        problem = (
            f"[classifier] guarantee: {examples:,} examples of {classes:,} classes make {pairs:,} pairs that every"
            f" image is compared with, and at most {MAX_PAIRS:,} are possible: {advice}"
        )
        raise JobError([problem])


def fewest_examples(label_set_error: float) -> int:
    """Return how many examples it takes for a set to lack any class: 9 for 0.1, 19 for 0.05.

    Args:
        label_set_error: in (0, 1).

    Returns:
        the least N with a rank to reject, see `fewshot.conformal.rejected_ranks`.
    """
    return max(0, math.ceil(1.0 / label_set_error - 1e-9) - 1)


def label_set_plan(label_set_error: float, *, examples: int, classes: int, images: int | None) -> LabelSetPlan:
    """Return whether there are enough examples, and the CPU-hours of all images.

    Args:
        label_set_error: probability with which a set may lack the true label, in (0, 1).
        examples: N.
        classes: K.
        images: of the archive; None if unknown.
    """
    needed = fewest_examples(label_set_error)
    pairs = examples * classes if examples >= needed else 0  # Sets of all classes are made without ranks.
    hours = None if images is None else SECONDS_A_PAIR * pairs * images / 3600
    return LabelSetPlan(label_set_error=label_set_error, examples=examples, needed=needed, cpu_hours=hours)


def is_long(plan: LabelSetPlan | None) -> bool:
    """Whether label sets take so long that workers should make them."""
    return plan is not None and plan.cpu_hours is not None and plan.cpu_hours * 3600 > LONG_S


def warnings_about_label_sets(plan: LabelSetPlan, examples_of_class: Mapping[str, int]) -> list[str]:
    """Describe why label sets would say little, or take long.

    Args:
        plan: what they take.
        examples_of_class: number of examples of each class; empty where it is unknown.
    """
    found = [] if plan.is_reachable else [_too_few_examples(plan)]
    if plan.is_reachable and examples_of_class and max(examples_of_class.values()) < MIN_EXAMPLES:
        found.append(ONE_EXAMPLE)
    if plan.cpu_hours is not None and plan.cpu_hours > MANY_HOURS:
        found.append(
            f"label sets take about {plan.cpu_hours:,.0f} CPU-hours: every image is compared with every pair of an"
            " example and a class. Fewer examples a class (support.shots) take less."
        )
    return found


def _too_few_examples(plan: LabelSetPlan) -> str:
    reachable = math.ceil(100 / (plan.examples + 1)) / 100
    advice = f"Add examples, or raise label_set_error to {reachable:g}" if reachable < 1 else "Add examples"
    return (
        f"label_set_error = {plan.label_set_error:g} takes at least {plan.needed:,} examples, and there are"
        f" {plan.examples:,}: every label set would have all classes, and every prediction would be abstained."
        f" {advice}."
    )


def stored_with_label_sets(stored: ClassifierRef, label_set_error: float | None) -> ClassifierRef:
    """Return a stored classifier with label sets, once its examples are known to be whole.

    Args:
        stored: the classifier.
        label_set_error: probability with which a set may lack the true label; None returns the classifier as it is.

    Raises:
        JobError: the examples are not beside it, are damaged, or make too many pairs.
    """
    if label_set_error is None:
        return stored
    found = stored.with_label_sets(label_set_error)
    try:
        rule, digest = found.label_set_rule(), examples_digest(stored.store, stored.folder)
    except (JobError, ClusterError) as error:
        raise JobError([f"[classifier] guarantee: {error}"]) from error
    if rule is not None:
        check_pairs(examples=len(rule.examples), classes=len(stored.classes))
    return replace(found, identity=f"{stored.identity} {digest}")
