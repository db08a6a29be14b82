"""What is chosen after the training, in closed form, on held-out shots: the calibration and what the means count."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import product
from typing import NamedTuple, get_args

from torch import Tensor

from fewshot.diffusion.tokens.learning import Learned, classifier_of
from fewshot.diffusion.tokens.token_rows import Calibration
from fewshot.model_selection.cross_validation import Split, select_point
from fewshot.problem import Problem
from fewshot.prompt_learning.context_rows import MIN_QUERIES
from fewshot.prototypes import IMAGE_WEIGHTS

DEFAULT_CALIBRATION: Calibration = "none"
DEFAULT_IMAGE_WEIGHT = 1.0
"""Both as good as any on two draws of eight emoji; see `fewshot.methods.mcti`."""


class TokenPoint(NamedTuple):
    """A point of the grid.

    Attributes:
        calibration: see `tokens.rows`.
        image_weight: of a class's mean beside its text row, >= 0; 0 is the published classifier.
    """

    calibration: Calibration
    image_weight: float


def choose_point(
    problem: Problem,
    learned: Callable[[Problem], Learned],
    *,
    calibration: Calibration | None,
    image_weight: float | None,
    folds: int,
    seed: int,
) -> TokenPoint:
    """The point with the best held-out accuracy, of equals the one nearest to the published classifier.

    Args:
        problem: what may be used.
        learned: from a part of it.
        calibration: None chooses it, or takes the default where too few images can be held out.
        image_weight: likewise.
        folds: how many of them to train on.
        seed: draws the folds.
    """
    calibrations: tuple[Calibration, ...] = get_args(Calibration) if calibration is None else (calibration,)
    weights = IMAGE_WEIGHTS if image_weight is None else (image_weight,)
    default = TokenPoint(
        DEFAULT_CALIBRATION if calibration is None else calibration,
        DEFAULT_IMAGE_WEIGHT if image_weight is None else image_weight,
    )

    def sweep(split: Split, points: Collection[TokenPoint]) -> Iterator[tuple[TokenPoint, Tensor]]:
        part = split.problem
        found = learned(part)
        for point in points:
            yield point, classifier_of(part, found, **point._asdict()).logits(split.queries.features)

    points = [TokenPoint(*point) for point in product(calibrations, weights)]
    return select_point(
        points, problem, sweep, default=lambda _: default, seed=seed, folds=folds, min_queries=MIN_QUERIES
    )
