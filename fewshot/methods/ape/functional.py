"""Training-free APE (Zhu et al. 2023, arXiv 2304.01195) as functions of tensors.

    logits = s x W^T + alpha exp(-beta (1 - x' F'^T)) diag(exp(gamma d)) L

A prime is the restriction to the kept channels, renormalised; the text term keeps all of them. Where we differ from the
authors' code: the channel criterion (`fewshot.key_value_cache.channels`) and that labels are integers. As in the code,
d is KL(label || prediction) in bits, so with gamma > 0 the shots that the text classifies badly count more; the paper
prints the other direction.

`refine` is that restriction, and `sweep` tries a grid of hyperparameters.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from fewshot.key_value_cache.channels import CriterionSource, criterion_channels, on_channels
from fewshot.key_value_cache.kernel import MEMORY_BYTES, Cache, kernel, segment_sum
from fewshot.model_selection.cross_validation import Split
from fewshot.problem import Problem
from fewshot.prototypes import text_logits

EPSILON = 1e-6
"""Added to both probabilities inside the logarithm, as in the authors' code."""


class ApePoint(NamedTuple):
    """A point of the grid, the axes in the order in which the sweep nests them."""

    channel_fraction: float
    similarity_weight: float
    beta: float
    gamma: float
    alpha: float


@dataclass(frozen=True, slots=True)
class Refined:
    """A cache on the kept channels.

    Attributes:
        keys: [M, Q] float32, unit rows, grouped by class.
        counts: [K] int64.
        channels: [Q] int64, ascending.
        divergence: [M] float32, d in bits.
    """

    keys: Tensor
    counts: Tensor
    channels: Tensor
    divergence: Tensor

    def weights(self, *, gamma: float, class_mean: bool) -> Tensor:
        """Return exp(gamma d), [M] float32; with `class_mean`, those of a class are divided by its share of shots.

        The class mean removes the advantage of classes with more shots; with equal shots it changes nothing.
        """
        weights = torch.exp(gamma * self.divergence)
        if not class_mean:
            return weights
        mean_count = self.counts.sum() / (self.counts > 0).sum()
        return weights * torch.repeat_interleave(mean_count / self.counts, self.counts)


def refine(
    problem: Problem, cache: Cache, *, fraction: float, similarity_weight: float, source: CriterionSource
) -> Refined:
    """Keep the channels that separate the classes best, and measure the divergence of each shot on them."""
    channels = criterion_channels(
        problem.class_embeddings, cache, fraction=fraction, similarity_weight=similarity_weight, source=source
    )
    keys = on_channels(cache.keys, channels)
    divergence = label_divergence(keys, on_channels(problem.class_embeddings, channels), cache.labels)
    return Refined(keys, cache.counts, channels, divergence)


def sweep(
    split: Split, points: Collection[ApePoint], *, source: CriterionSource, class_mean: bool
) -> Iterator[tuple[ApePoint, Tensor]]:
    """Yield the logits of the queries of a split at each point.

    One matrix product for each choice of channels, one exp pass for each beta, one weighted sum for each gamma; alpha
    is an axpy.
    """
    problem, queries = split.problem, split.queries.features
    cache = Cache.from_problem(problem)
    zero_shot = text_logits(queries, problem.class_embeddings, logit_scale=problem.logit_scale)
    for (fraction, similarity_weight), on_subspace in groupby(sorted(points), key=lambda point: point[:2]):
        refined = refine(problem, cache, fraction=fraction, similarity_weight=similarity_weight, source=source)
        cosines = refined.keys @ on_channels(queries, refined.channels).T
        for beta, at_beta in groupby(on_subspace, key=lambda point: point.beta):
            affinity = kernel(cosines, beta=beta)
            for gamma, at_gamma in groupby(at_beta, key=lambda point: point.gamma):
                weights = refined.weights(gamma=gamma, class_mean=class_mean)
                votes = segment_sum(affinity * weights[:, None], refined.counts).T
                for point in at_gamma:
                    yield point, torch.add(zero_shot, votes, alpha=point.alpha)


def label_divergence(keys: Tensor, text: Tensor, labels: Tensor, *, memory_bytes: int = MEMORY_BYTES) -> Tensor:
    """Return KL(label || prediction of the text) of each shot in bits: -log2((p + 1e-6) / (1 + 1e-6)), p its own share.

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
