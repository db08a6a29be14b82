"""The published staged elimination (Diffusion Classifier, arXiv 2303.16203; TiF, arXiv 2403.02649, in code).

A stage asks its share of the time grid about every class that is left, and keeps those with the smallest mean error
over everything asked so far. All classes of an image see the same time-steps and the same noise. Where we differ:

* a stage that finds no new time-step asks nothing and still eliminates (the code crashes);
* a decision sees errors only. The code is given the true label, stops when it is eliminated, and then returns the
  winner's place among the survivors as if it were a class;
* time-steps of weight 0 are not asked. The schedule still counts them, so every stage keeps the same classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from fewshot.diffusion.time_grid import stage_entries
from fewshot.errors import DataError, UnknownNameError

Ask = Callable[[Tensor, Tensor], Tensor]
"""Classes [N, C] int64 and grid entries [m] int64 to errors [N, C, m] float."""


@dataclass(frozen=True, slots=True)
class Stage:
    """How many steps of the grid have been asked after a stage, and how many classes go on."""

    steps: int
    keep: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """Stages with rising steps and falling numbers of classes; the last one keeps one class.

    Raises:
        DataError: the stages are not such.
    """

    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        """Check the order."""
        ordered = all(a.steps <= b.steps and a.keep >= b.keep for a, b in pairwise(self.stages))
        if not self.stages or self.stages[0].steps < 1 or not ordered or self.stages[-1].keep != 1:
            raise DataError(f"got {self.stages}, expected steps of at least 1 that rise and classes that fall to 1")

    @property
    def grid(self) -> int:
        """Steps of the whole grid."""
        return self.stages[-1].steps


@dataclass(frozen=True, slots=True)
class Round:
    """What one stage asks.

    Attributes:
        classes: how many classes of each image are asked about.
        entries: [m] int64, the new entries of the grid, rising; may be empty.
        keep: how many classes go on, at most `classes`.
    """

    classes: int
    entries: Tensor
    keep: int


def staged(steps: tuple[int, ...], keep: tuple[int, ...]) -> Schedule:
    """The schedule with these two lists, as the published commands give them (`n_samples` and `to_keep`)."""
    return Schedule(tuple(Stage(n, k) for n, k in zip(steps, keep, strict=True)))


def exhaustive(steps: int) -> Schedule:
    """Every class sees the whole grid."""
    return staged((steps,), (1,))


PUBLISHED = {
    "fgvc": (100, staged((20, 50, 100, 500), (20, 10, 5, 1))),
    "isic": (8, staged((128, 256, 500), (4, 2, 1))),
    "duke": (150, staged((32, 128, 256, 500), (50, 20, 5, 1))),
    "veri": (200, staged((32, 128, 256, 500), (50, 20, 5, 1))),
}
"""TiF's schedules by data set, with the number of classes each was used for."""


def published(name: str) -> Schedule:
    """A schedule of `PUBLISHED`.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if name not in PUBLISHED:
        raise UnknownNameError("schedule", name, PUBLISHED)
    return PUBLISHED[name][1]


def scaled(name: str, *, num_classes: int, steps: int) -> Schedule:
    """A published schedule with the same shares of another number of classes and of another grid.

    Every stage but the last keeps two classes or more, so that the last time-steps are asked about something.
    """
    schedule, K = published(name), PUBLISHED[name][0]
    *early, _ = schedule.stages
    return staged(
        (*(max(1, stage.steps * steps // schedule.grid) for stage in early), steps),
        (*(max(2, round(stage.keep * num_classes / K)) for stage in early), 1),
    )


def rounds(schedule: Schedule, num_classes: int, *, weights: Tensor | None = None) -> list[Round]:
    """What the stages ask of K classes.

    Args:
        schedule: the stages.
        num_classes: K.
        weights: [schedule.grid] float; entries of weight 0 are left out. None leaves out none.
    """
    done = torch.zeros(schedule.grid, dtype=torch.bool) if weights is None else weights == 0
    plan, classes = [], num_classes
    for stage in schedule.stages:
        entries = stage_entries(stage.steps, schedule.grid)
        new = entries[~done[entries]]
        done = done.index_fill(0, new, True)
        keep = min(stage.keep, classes)
        plan.append(Round(classes, new, keep))
        classes = keep
    return plan


def forwards(plan: list[Round]) -> int:
    """How many forwards of the UNet an image costs."""
    return sum(round_.classes * len(round_.entries) for round_ in plan)


def survivors(scores: Tensor, classes: Tensor, keep: int) -> Tensor:
    """The classes with the smallest scores; of equal ones, the lowest.

    Args:
        scores: [N, K] float, e.g. summed weighted errors; only those of `classes` are looked at.
        classes: [N, C] int64, which classes are left, rising in each row.
        keep: in [1, C].

    Returns:
        [N, keep] int64, rising in each row.
    """
    best = scores.gather(1, classes).argsort(dim=1, stable=True)[:, :keep]
    return classes.gather(1, best).sort(dim=1).values


def eliminate(ask: Ask, plan: list[Round], *, images: int, weights: Tensor | None = None) -> Tensor:
    """Labels by staged elimination.

    Args:
        ask: errors of classes at grid entries.
        plan: of `rounds`.
        images: N.
        weights: [grid] float; None weighs every time-step the same.

    Returns:
        [N] int64, labels in [0, K).
    """
    K = plan[0].classes
    classes = torch.arange(K).expand(images, K)
    sums = torch.zeros(images, K, dtype=torch.float64)
    for round_ in plan:
        errors = ask(classes, round_.entries).double()
        if weights is not None:
            errors = errors * weights[round_.entries]
        sums = sums.scatter_add(1, classes, errors.sum(dim=2))
        classes = survivors(sums, classes, round_.keep)
    return classes.squeeze(1)
