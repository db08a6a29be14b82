"""Training-free APE (Zhu et al. 2023, arXiv 2304.01195) as functions of tensors.

    logits = s x W^T + alpha exp(-beta (1 - x' F'^T)) diag(exp(gamma d)) L

A prime is the restriction to the kept channels, renormalised; the text term keeps all of them. Where we differ from
the authors' code: the channel criterion is in closed form (theirs is a loop over quadruples), it averages over class
means, so classes may differ in shots, and labels are integers. As in the code, d is KL(label || prediction) in bits,
so with gamma > 0 the shots that the text finds harder count more; the paper prints the other direction.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.cache import MEMORY_BYTES, segment_sum

EPSILON = 1e-6
"""Added to both probabilities inside the logarithm, as in the authors' code."""


def class_means(text: Tensor, keys: Tensor, counts: Tensor) -> Tensor:
    """Mean of a class's text prototype and its shots (criterion source text+image).

    Args:
        text: [K, D] float32.
        keys: [M, D] float32, grouped by class.
        counts: [K] int64 with sum M.

    Returns:
        [K, D] float32.
    """
    return (text + segment_sum(keys, counts)) / (1 + counts)[:, None]


def interclass_similarity(means: Tensor) -> Tensor:
    """S of the criterion: for each channel, the product of two classes' means, averaged over ordered pairs.

    With M vectors g a class, ((sum_i s_i)^2 - sum_i s_i^2) / (K (K - 1) M^2) where s_i = sum_m g[i, m].

    Args:
        means: [K, D] float32.

    Returns:
        [D] float32.
    """
    K = len(means)
    return (means.sum(dim=0).square() - means.square().sum(dim=0)) / (K * (K - 1))


def interclass_variance(text: Tensor) -> Tensor:
    """V of the criterion: unbiased variance over the classes of the text prototypes [K, D]; [D] float32."""
    return text.var(dim=0, correction=1)


def kept_channels(means: Tensor, text: Tensor, *, fraction: float, similarity_weight: float) -> Tensor:
    """The channels with the smallest weight * S - (1 - weight) * V.

    Args:
        means: [K, D] float32, what S is measured on.
        text: [K, D] float32, what V is measured on.
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
    """[B, Q] float32, unit rows: rows [B, D] restricted to channels [Q]."""
    return normalize(rows[:, channels], dim=1)


def label_divergence(keys: Tensor, text: Tensor, labels: Tensor, *, memory_bytes: int = MEMORY_BYTES) -> Tensor:
    """KL(label || text's prediction) of each shot, in bits: -log2((p + 1e-6) / (1 + 1e-6)), p its own class's share.

    The softmax has no temperature (raw cosines), as in the authors' code, so that d is close to log2 K.

    Args:
        keys: [M, Q] float32, unit rows.
        text: [K, Q] float32, unit rows.
        labels: [M] int64.
        memory_bytes: budget of the cosines held at a time.

    Returns:
        [M] float32, about [0, 19.93].
    """
    rows_a_block = max(1, memory_bytes // (4 * len(text)))
    log_share = (keys * text[labels]).sum(dim=1)
    for rows in (slice(start, start + rows_a_block) for start in range(0, len(keys), rows_a_block)):
        log_share[rows] -= torch.logsumexp(keys[rows] @ text.T, dim=1)
    return -torch.log2((log_share.exp() + EPSILON) / (1 + EPSILON))
