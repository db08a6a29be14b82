"""The published staged elimination (Diffusion Classifier, arXiv 2303.16203; TiF, arXiv 2403.02649, in code).

A stage scores all classes that are left at its share of the time grid, and keeps those with the smallest mean error
over everything scored so far. All classes of an image are scored at the same time-steps and with the same noise. Where
we differ:

* A stage that finds no new time-step scores nothing and still eliminates (the code crashes).
* A decision is based on errors only. The code is given the true label, stops when it is eliminated, and then returns
  the winner's place among the survivors as if it were a class.
* Time-steps of weight 0 are not scored. The schedule still counts them, so every stage keeps the same classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from fewshot.diffusion.time_grid import stage_entries
from fewshot.errors import DataError, UnknownNameError

ErrorFunction = Callable[[Tensor, Tensor], Tensor]
"""Computes the errors [N, C, m] float of classes [N, C] int64 at grid entries [m] int64."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a schedule.

    Attributes:
        steps: entries of the grid that are scored by the end of the stage.
        keep: classes that go on to the next stage.
    """

    steps: int
    keep: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """Stages with rising steps and falling numbers of classes; the last one keeps one class.

    Raises:
        DataError: the stages do not rise and fall like that.
    """

    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        """Check the order of the stages."""
        ordered = all(a.steps <= b.steps and a.keep >= b.keep for a, b in pairwise(self.stages))
        if not self.stages or self.stages[0].steps < 1 or not ordered or self.stages[-1].keep != 1:
            raise DataError(f"got {self.stages}, expected steps of at least 1 that rise and classes that fall to 1")

    @property
    def grid(self) -> int:
        """Number of entries of the whole grid."""
        return self.stages[-1].steps


@dataclass(frozen=True, slots=True)
class EliminationRound:
    """The work of one stage.

    Attributes:
        classes: number of classes of each image that are scored.
        entries: [m] int64, the new entries of the grid, rising; may be empty.
        keep: number of classes that go on, at most `classes`.
    """

    classes: int
    entries: Tensor
    keep: int


def make_schedule(steps: tuple[int, ...], keep: tuple[int, ...]) -> Schedule:
    """Return the schedule with these two lists, as the published commands give them (`n_samples` and `to_keep`).

    Raises:
        DataError: see `Schedule`.
    """
    return Schedule(tuple(Stage(n, k) for n, k in zip(steps, keep, strict=True)))


def exhaustive_schedule(steps: int) -> Schedule:
    """Return the schedule that scores every class on the whole grid of `steps` entries."""
    return make_schedule((steps,), (1,))


PUBLISHED = {
    "fgvc": (100, make_schedule((20, 50, 100, 500), (20, 10, 5, 1))),
    "isic": (8, make_schedule((128, 256, 500), (4, 2, 1))),
    "duke": (150, make_schedule((32, 128, 256, 500), (50, 20, 5, 1))),
    "veri": (200, make_schedule((32, 128, 256, 500), (50, 20, 5, 1))),
}
"""TiF's schedules by data set, with the number of classes that each was used for."""


def published_schedule(name: str) -> Schedule:
    """Return a schedule of `PUBLISHED`.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if name not in PUBLISHED:
        raise UnknownNameError("schedule", name, PUBLISHED)
    return PUBLISHED[name][1]


def scale_schedule(name: str, *, num_classes: int, steps: int) -> Schedule:
    """Return a published schedule with the same shares of another number of classes and of another grid.

    Every stage but the last keeps two classes or more, so that the last time-steps have something to decide.

    Args:
        name: a key of `PUBLISHED`.
        num_classes: K of the new schedule.
        steps: entries of the new grid.

    Raises:
        UnknownNameError: there is no schedule of that name.
    """
    schedule, K = published_schedule(name), PUBLISHED[name][0]
    *early, _ = schedule.stages
    return make_schedule(
        (*(max(1, stage.steps * steps // schedule.grid) for stage in early), steps),
        (*(max(2, round(stage.keep * num_classes / K)) for stage in early), 1),
    )


def plan_rounds(schedule: Schedule, num_classes: int, *, weights: Tensor | None = None) -> list[EliminationRound]:
    """Plan the rounds of a schedule.

    Args:
        schedule: the stages.
        num_classes: K.
        weights: [schedule.grid] float; entries of weight 0 are left out. None leaves out none.

    Returns:
        One round a stage.
    """
    done = torch.zeros(schedule.grid, dtype=torch.bool) if weights is None else weights == 0
    plan, classes = [], num_classes
    for stage in schedule.stages:
        entries = stage_entries(stage.steps, schedule.grid)
        new = entries[~done[entries]]
        done = done.index_fill(0, new, True)
        keep = min(stage.keep, classes)
        plan.append(EliminationRound(classes, new, keep))
        classes = keep
    return plan


def count_forwards(plan: list[EliminationRound]) -> int:
    """Return the number of rows that an image takes in forwards of the UNet."""
    return sum(round_.classes * len(round_.entries) for round_ in plan)


def survivors(scores: Tensor, classes: Tensor, keep: int) -> Tensor:
    """Return the classes with the smallest scores; of equal ones, the lowest.

    Args:
        scores: [N, K] float, e.g. summed weighted errors; only those of `classes` are read.
        classes: [N, C] int64, the classes that are left, rising in each row.
        keep: in [1, C].

    Returns:
        [N, keep] int64, rising in each row.
    """
    best = scores.gather(1, classes).argsort(dim=1, stable=True)[:, :keep]
    return classes.gather(1, best).sort(dim=1).values


def eliminate(
    errors_of: ErrorFunction, plan: list[EliminationRound], *, images: int, weights: Tensor | None = None
) -> Tensor:
    """Label images by staged elimination.

    Args:
        errors_of: computes the errors that a round needs.
        plan: from `plan_rounds`.
        images: N.
        weights: [grid] float; None weighs every time-step the same.

    Returns:
        [N] int64, labels in [0, K).
    """
    K = plan[0].classes
    classes = torch.arange(K).expand(images, K)
    sums = torch.zeros(images, K, dtype=torch.float64)
    for round_ in plan:
        errors = errors_of(classes, round_.entries).double()
        if weights is not None:
            errors = errors * weights[round_.entries]
        sums = sums.scatter_add(1, classes, errors.sum(dim=2))
        classes = survivors(sums, classes, round_.keep)
    return classes.squeeze(1)
