"""Blends of learned text rows with the text embedding of a class and the mean of its examples.

A learned context fits the shots but loses some of the knowledge in the words of a prompt, and with meaningless names no
context helps. Both are corrected after the training, in closed form, by two numbers that are chosen on held-out shots:

    row = n(n(share · learned + (1 - share) · text) + image_weight · mean)         n normalises to unit length

A share of 1 with an image weight of 0 is exactly the published classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import product
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import normalize

from fewshot.key_value_cache.kernel import Cache
from fewshot.model_selection.cross_validation import Split, select_point
from fewshot.problem import Problem
from fewshot.prototypes import IMAGE_WEIGHTS, class_means, default_image_weight, text_logits

PROMPT_SHARES = (0.0, 0.5, 1.0)
DEFAULT_PROMPT_SHARE = 0.5
MIN_QUERIES = 32
"""Minimum number of held-out images to choose on. With fewer, the best of two dozen points is the luckiest: on sign
digits (10 classes, embedded CLIP) with 4 shots, 10 held-out images chose points that lost 0.04 and 0.11 to the nearest
class mean."""


class RowsPoint(NamedTuple):
    """A point of the hyperparameter grid.

    Attributes:
        prompt_share: share of the learned row, in [0, 1]; the rest is the text embedding.
        image_weight: weight of the mean of the examples, >= 0.
    """

    prompt_share: float
    image_weight: float


def class_means_of(problem: Problem) -> Tensor:
    """Return the normalised mean of each class's shots, [K, D] float32; 0 for a class without shots."""
    cache = Cache.from_problem(problem)
    return class_means(cache.keys, cache.counts)


def blended_rows(learned: Tensor, text: Tensor, means: Tensor, point: RowsPoint) -> Tensor:
    """Return the blended rows, see the module.

    Args:
        learned: [..., D] float32, unit rows.
        text: [..., D] float32, unit rows, the text embeddings of the same classes.
        means: [..., D] float32, see `class_means_of`; a mean of 0 changes nothing.
        point: share and weight.

    Returns:
        [..., D] float32, unit rows.
    """
    share, rows = point.prompt_share, learned
    if share < 1.0:
        rows = normalize(share * learned + (1.0 - share) * text, dim=-1) if share else text
    return normalize(rows + point.image_weight * means, dim=-1) if point.image_weight else rows


def choose_rows(
    problem: Problem,
    learned: Callable[[Problem], Tensor],
    *,
    prompt_share: float | None,
    image_weight: float | None,
    folds: int,
    seed: int,
) -> RowsPoint:
    """Choose share and weight by held-out accuracy; the default with fewer held-out images than `MIN_QUERIES`.

    Ties are won by the point that is closest to zero-shot.

    Args:
        problem: the shots.
        learned: returns the rows [K, D] that are trained on a part of the problem.
        prompt_share: None chooses it.
        image_weight: None chooses it.
        folds: number of folds to train on.
        seed: of the draw of the folds.
    """
    shares = PROMPT_SHARES if prompt_share is None else (prompt_share,)
    weights = IMAGE_WEIGHTS if image_weight is None else (image_weight,)
    points = [RowsPoint(share, weight) for share, weight in product(shares, weights)]
    return select_point(
        points,
        problem,
        lambda split, some: sweep_rows(split, some, learned(split.problem)),
        default=lambda whole: RowsPoint(
            prompt_share=DEFAULT_PROMPT_SHARE if prompt_share is None else prompt_share,
            image_weight=default_image_weight(whole) if image_weight is None else image_weight,
        ),
        seed=seed,
        folds=folds,
        min_queries=MIN_QUERIES,
    )


def sweep_rows(split: Split, points: Collection[RowsPoint], learned: Tensor) -> Iterator[tuple[RowsPoint, Tensor]]:
    """Yield each point with the logits of a split's queries.

    Args:
        split: the shots and queries.
        points: points of the grid.
        learned: [K, D] float32, unit rows, trained on the split.
    """
    problem, queries = split.problem, split.queries.features
    means = class_means_of(problem)
    for point in points:
        rows = blended_rows(learned, problem.class_embeddings, means, point)
        yield point, text_logits(queries, rows, logit_scale=problem.logit_scale)
