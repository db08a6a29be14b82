"""Selection of discriminative channels by the criterion of APE (Zhu et al. 2023, arXiv 2304.01195, eq. 3-8).

Channels are ranked by lambda S - (1 - lambda) V: little similarity between classes and much variance first. Differences
from the authors' code: S is in closed form (theirs is a loop over quadruples), and it averages over class means, so
that the number of shots may differ between classes.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn.functional import normalize

from fewshot.key_value_cache.kernel import Cache, segment_sum

CriterionSource = Literal["text", "text+image"]
"""Source of S: the text embeddings, or the means of text and shots."""


def criterion_channels(
    text: Tensor, cache: Cache, *, fraction: float, similarity_weight: float, source: CriterionSource
) -> Tensor:
    """Return [Q] int64, ascending: the channels selected for text [K, D] and a cache; see `select_channels`."""
    means = text if source == "text" else text_and_shot_means(text, cache.keys, cache.counts)
    return select_channels(means, text, fraction=fraction, similarity_weight=similarity_weight)


def text_and_shot_means(text: Tensor, keys: Tensor, counts: Tensor) -> Tensor:
    """Return the mean of each class's text embedding and its shots (criterion source "text+image").

    Args:
        text: [K, D] float32.
        keys: [M, D] float32, grouped by class.
        counts: [K] int64 with sum M.

    Returns:
        [K, D] float32.
    """
    return (text + segment_sum(keys, counts)) / (1 + counts)[:, None]


def interclass_similarity(means: Tensor) -> Tensor:
    """Return S of the criterion: for each channel, the product of two classes' means, averaged over ordered pairs.

    With M vectors g for each class, ((sum_i s_i)^2 - sum_i s_i^2) / (K (K - 1) M^2) where s_i = sum_m g[i, m].

    Args:
        means: [K, D] float32.

    Returns:
        [D] float32.
    """
    K = len(means)
    return (means.sum(dim=0).square() - means.square().sum(dim=0)) / (K * (K - 1))


def interclass_variance(text: Tensor) -> Tensor:
    """Return V of the criterion, [D] float32: the unbiased variance of text embeddings [K, D] over the classes."""
    return text.var(dim=0, correction=1)


def select_channels(means: Tensor, text: Tensor, *, fraction: float, similarity_weight: float) -> Tensor:
    """Return the channels with the smallest weight * S - (1 - weight) * V.

    Args:
        means: [K, D] float32, for S.
        text: [K, D] float32, for V.
        fraction: share of the D channels to keep, in (0, 1]; at least one is kept.
        similarity_weight: lambda in [0, 1]; 1 ranks by S alone, 0 by V alone.

    Returns:
        [Q] int64, ascending. A smaller fraction gives a subset of a larger one.
    """
    D = means.shape[1]
    score = similarity_weight * interclass_similarity(means) - (1 - similarity_weight) * interclass_variance(text)
    ranked = score.argsort(stable=True)
    return ranked[: max(1, round(fraction * D))].sort().values


def on_channels(rows: Tensor, channels: Tensor) -> Tensor:
    """Return rows [B, D] restricted to channels [Q]: [B, Q] float32, unit rows."""
    return normalize(rows[:, channels], dim=1)
