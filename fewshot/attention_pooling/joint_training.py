"""SAFE-A in one training: the pooling layer together with the adapter behind it (arXiv 2311.04464).

The abstract does not say whether the adapter is trained after the layer or with it; here they are trained together. The
loss, the target rows and the schedule are those of the layer alone (`fewshot.attention_pooling.pool_training`). Between
the pooled features and the target rows lies one of two adapters:

* `bottleneck`: CLIP-Adapter's network, with the same random initialisation as when it is trained alone;
* `tuned_cache`: votes of keys that start at the frozen layer's features; the votes of an image leave out its own key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from fewshot.attention_pooling.pool_training import PoolTrainingSettings, descend_with, require_pooling
from fewshot.feature_adapter import FeatureAdapterSettings, adapted, initial_network
from fewshot.key_value_cache.cache_training import GroupedShots, leave_one_out_votes
from fewshot.optimization.shots import Shots
from fewshot.optimization.training_cache import State
from fewshot.problem import Problem

JointAdapter = Literal["bottleneck", "tuned_cache"]
JOINT_ADAPTERS: tuple[JointAdapter, ...] = ("bottleneck", "tuned_cache")
PREFIX = "adapter."
"""Prefix of the names of the adapter's tensors in a dictionary with the layer's."""


class Head(NamedTuple):
    """An adapter under training.

    Attributes:
        start: its tensors before the first step.
        logits: (features [B, D], rows of the batch [B], tensors) -> [B, k].
    """

    start: State
    logits: Callable[[Tensor, Tensor, Mapping[str, Tensor]], Tensor]


def tune_jointly(
    problem: Problem, adapter: JointAdapter, targets: Tensor, *, settings: PoolTrainingSettings, seed: int
) -> State:
    """Train layer and adapter.

    Args:
        problem: with dense tokens and the layer; classes without shots are left out of the loss.
        adapter: kind of adapter.
        targets: [K, D] float32, unit rows: the target of each class.
        settings: schedule of the training.
        seed: of the order of the shots and the initialisation of the network.

    Returns:
        The layer's tensors by name, and the adapter's with `PREFIX`: "down" and "up", or "keys" [M, D] in the order of
        `Cache.from_problem(problem)`.

    Raises:
        DataError: the problem has no tokens or no pooling layer.
    """
    pooling, dense = require_pooling(problem)
    shots = GroupedShots.from_problem(problem)
    tokens, labels = dense[_support_rows(problem)], shots.images.labels
    head = HEADS[adapter](shots, targets[shots.classes], problem.logit_scale, seed)
    layer = pooling.trainable(settings.scope)

    def loss(tensors: Mapping[str, Tensor], batch: Tensor, _: torch.Generator) -> Tensor:
        learned = {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}
        features = normalize(pooling(tokens[batch], {name: tensors[name] for name in layer}), dim=1)
        return cross_entropy(head.logits(features, batch, learned) / settings.loss_temperature, labels[batch])

    start = {**layer, **{PREFIX + name: value for name, value in head.start.items()}}
    tuned = descend_with(settings, start, loss, rows=len(labels), seed=seed)
    if PREFIX + "keys" in tuned:
        tuned[PREFIX + "keys"] = tuned[PREFIX + "keys"][shots.cache_order]
    return tuned


def _support_rows(problem: Problem) -> Tensor:
    """Return [M] int64: the rows of the grouped shots in the problem's support."""
    shots = Shots.from_problem(problem)
    return shots.rows[shots.labels.argsort(stable=True)]


def _bottleneck_head(_shots: GroupedShots, targets: Tensor, logit_scale: float, seed: int) -> Head:
    ratio = FeatureAdapterSettings().residual_ratio

    def logits(features: Tensor, _batch: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        return logit_scale * adapted(features, tensors, residual_ratio=ratio, second_relu=False) @ targets.T

    return Head(initial_network(targets.shape[1], seed=seed), logits)


def _cache_head(shots: GroupedShots, targets: Tensor, logit_scale: float, _seed: int) -> Head:
    keys = shots.images.features
    alpha, beta = shots.training_alpha_beta(keys, logit_scale=logit_scale)

    def logits(features: Tensor, batch: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        votes = leave_one_out_votes(tensors["keys"], shots.counts, features, shots.same_image(batch), beta=beta)
        return logit_scale * features @ targets.T + alpha * votes

    return Head({"keys": keys}, logits)


HEADS: Mapping[JointAdapter, Callable[[GroupedShots, Tensor, float, int], Head]] = {
    "bottleneck": _bottleneck_head,
    "tuned_cache": _cache_head,
}
