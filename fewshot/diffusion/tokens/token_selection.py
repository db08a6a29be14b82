"""Choose the calibration and the weight of the class means on held-out shots, after the training, in closed form."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import product
from typing import NamedTuple, get_args

from torch import Tensor

from fewshot.diffusion.tokens.token_blocks import LearnedTokens, make_token_classifier
from fewshot.diffusion.tokens.token_classifier import Calibration
from fewshot.model_selection.cross_validation import Split, select_point
from fewshot.problem import Problem
from fewshot.prompt_learning.context_rows import MIN_QUERIES
from fewshot.prototypes import IMAGE_WEIGHTS

DEFAULT_CALIBRATION: Calibration = "none"
DEFAULT_IMAGE_WEIGHT = 1.0
"""Both defaults are as good as any on two draws of eight emoji; see `fewshot.methods.token_learning`."""


class TokenPoint(NamedTuple):
    """A point of the grid.

    Attributes:
        calibration: see `token_classifier`.
        image_weight: weight of a class's mean beside its text row, >= 0; 0 is the published classifier.
    """

    calibration: Calibration
    image_weight: float


def choose_point(
    problem: Problem,
    learned: Callable[[Problem], LearnedTokens],
    *,
    calibration: Calibration | None,
    image_weight: float | None,
    folds: int,
    seed: int,
) -> TokenPoint:
    """Return the point with the best held-out accuracy; of equal ones, the nearest to the published classifier.

    Args:
        problem: the shots to choose on.
        learned: trains the tokens of a part of the problem.
        calibration: None chooses it, or takes the default where too few images can be held out.
        image_weight: likewise.
        folds: number of folds to train on.
        seed: of the folds.
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
            yield point, make_token_classifier(part, found, **point._asdict()).logits(split.queries.features)

    points = [TokenPoint(*point) for point in product(calibrations, weights)]
    return select_point(
        points, problem, sweep, default=lambda _: default, seed=seed, folds=folds, min_queries=MIN_QUERIES
    )
