"""CLIP-Adapter (arXiv 2110.04544) as functions of tensors; the network itself is `fewshot.feature_adapter`.

Where we differ from the paper: the residual ratio is chosen after training, in closed form, as is the weight of the
class means (`fewshot.prototypes.with_means`; 0 is the paper's classifier); theirs was the best of its
range on each data set, it seems on the test images.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import groupby
from typing import NamedTuple

from torch import Tensor

from fewshot.feature_adapter import adapted
from fewshot.key_value_cache.kernel import Cache
from fewshot.model_selection.cross_validation import Split
from fewshot.prototypes import text_logits, with_means


class ClipAdapterPoint(NamedTuple):
    """A point of the grid."""

    residual_ratio: float
    image_weight: float


def class_rows(
    text: Tensor, cache: Cache, network: Mapping[str, Tensor], point: ClipAdapterPoint, *, second_relu: bool
) -> Tensor:
    """Return the text beside the means of the adapted shots, [K, D] float32, unit rows."""
    keys = adapted(cache.keys, network, residual_ratio=point.residual_ratio, second_relu=second_relu)
    return with_means(text, keys, cache.counts, image_weight=point.image_weight)


def sweep(
    split: Split, points: Collection[ClipAdapterPoint], network: Mapping[str, Tensor], *, second_relu: bool
) -> Iterator[tuple[ClipAdapterPoint, Tensor]]:
    """Yield the logits of the queries of a split at each point: the network runs once for each ratio.

    Args:
        split: what to measure on.
        points: of the grid.
        network: trained on the split.
        second_relu: see `fewshot.feature_adapter.FeatureAdapterSettings`.
    """
    problem, queries = split.problem, split.queries.features
    cache = Cache.from_problem(problem)
    for ratio, group in groupby(sorted(points), key=lambda point: point.residual_ratio):
        keys, features = (
            adapted(x, network, residual_ratio=ratio, second_relu=second_relu) for x in (cache.keys, queries)
        )
        for point in group:
            rows = with_means(problem.class_embeddings, keys, cache.counts, image_weight=point.image_weight)
            yield point, text_logits(features, rows, logit_scale=problem.logit_scale)
