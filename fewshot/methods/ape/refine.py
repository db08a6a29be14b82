"""The cache after APE's refinement, and the sweep over a grid of its hyperparameters."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from fewshot.key_value_cache.channels import CriterionSource, criterion_channels, on_channels
from fewshot.key_value_cache.kernel import Cache, kernel, segment_sum
from fewshot.methods.ape.functional import label_divergence
from fewshot.model_selection.cross_validation import Split
from fewshot.problem import Problem
from fewshot.prototypes import text_logits


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
        """[M] float32: exp(gamma d). With `class_mean`, a class's weights are divided by its share of shots.

        The class mean takes the advantage from classes with more shots; with equal shots it changes nothing.
        """
        weights = torch.exp(gamma * self.divergence)
        if not class_mean:
            return weights
        mean_count = self.counts.sum() / (self.counts > 0).sum()
        return weights * torch.repeat_interleave(mean_count / self.counts, self.counts)


def refine(
    problem: Problem, cache: Cache, *, fraction: float, similarity_weight: float, source: CriterionSource
) -> Refined:
    """Keep the channels that tell the classes apart, and measure how hard the text finds each shot on them."""
    channels = criterion_channels(
        problem.class_embeddings, cache, fraction=fraction, similarity_weight=similarity_weight, source=source
    )
    keys = on_channels(cache.keys, channels)
    divergence = label_divergence(keys, on_channels(problem.class_embeddings, channels), cache.labels)
    return Refined(keys, cache.counts, channels, divergence)


def sweep(
    split: Split, points: Collection[ApePoint], *, source: CriterionSource, class_mean: bool
) -> Iterator[tuple[ApePoint, Tensor]]:
    """Logits of a split's queries at each point.

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
