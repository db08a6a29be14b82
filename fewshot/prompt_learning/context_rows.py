"""Learned text rows beside what else is known of a class: its prompt prototype and the mean of its examples.

A learned context fits the shots and forgets some of what the words of a prompt knew, and where names say nothing no
context helps. Both are remedied after the training, in closed form, with two numbers that are chosen on held-out shots:

    row = n(n(share · learned + (1 - share) · prototype) + image_weight · mean)         n to unit length

A share of 1 and an image weight of 0 is the published classifier, exactly.
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
"""Held-out images to choose on. With fewer, the best of two dozen points is the luckiest: on sign digits (10 classes,
embedded CLIP) with 4 shots, 10 held-out images chose points that lost 0.04 and 0.11 to the nearest class mean."""


class RowsPoint(NamedTuple):
    """A point of the grid.

    Attributes:
        prompt_share: of the learned row beside the prompt prototype, in [0, 1].
        image_weight: of the mean of the examples beside both, >= 0.
    """

    prompt_share: float
    image_weight: float


def class_means_of(problem: Problem) -> Tensor:
    """[K, D] float32: the unit mean of each class's keys; 0 for a class without shots."""
    cache = Cache.from_problem(problem)
    return class_means(cache.keys, cache.counts)


def blended_rows(learned: Tensor, text: Tensor, means: Tensor, point: RowsPoint) -> Tensor:
    """See the module.

    Args:
        learned: [..., D] float32, unit rows.
        text: [..., D] float32, unit rows, the prompt prototypes of the same classes.
        means: [..., D] float32, see `class_means_of`; where it is 0 it counts nothing.
        point: how much of each.

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
    """The point with the best held-out accuracy, of equals the most zero-shot-like; or the default (see `MIN_QUERIES`).

    Args:
        problem: what may be used.
        learned: gives the rows [K, D] that are learned from a part of it.
        prompt_share: None chooses it.
        image_weight: None chooses it.
        folds: how many of them to train on.
        seed: draws the folds.
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
    """Logits of a split's queries at each point.

    Args:
        split: where to measure.
        points: where in the grid.
        learned: [K, D] float32, unit rows, learned from the split.
    """
    problem, queries = split.problem, split.queries.features
    means = class_means_of(problem)
    for point in points:
        rows = blended_rows(learned, problem.class_embeddings, means, point)
        yield point, text_logits(queries, rows, logit_scale=problem.logit_scale)
