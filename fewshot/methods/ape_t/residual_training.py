"""Training of APE-T: the residuals Res [K, Q], from zero, and the weights v [M] of the keys, from one.

As in the authors' code: AdamW with weight decay 0.1 and eps 1e-3 on both (where gradients are far below eps it is
descent by their size), half a cosine, batches of 256, one view of an image a step, alpha and beta fixed, no epoch
chosen. Where we differ: as in `fewshot.key_value_cache.cache_training`, and for its reasons, an image is not compared
with its own key, alpha and beta are in units of the features, and few shots get more epochs. `train_as_published` does
not differ in these three. The authors take the epoch that is best on their validation images, ours is always the last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torch.optim import AdamW, Optimizer

from fewshot.key_value_cache.cache_training import CacheTrainingSettings, GroupedShots
from fewshot.key_value_cache.published_settings import TRAINING_BETA
from fewshot.methods.ape_t.functional import affinity_side, moved_logits, shifts, weighted_votes
from fewshot.optimization.descent import descend
from fewshot.optimization.shots import augmented_views, draw_views
from fewshot.optimization.training_cache import State
from fewshot.problem import Problem

EPSILON = 1e-3
"""Of AdamW."""


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How a training goes.

    Attributes:
        alpha: weight of the votes.
        beta: how fast they fall with the distance.
        epsilon: of AdamW.
        steps: number of steps.
        own_keys: whether the key of an image votes on it.
        views: [M, V, D] float32, drawn from.
    """

    alpha: float
    beta: float
    epsilon: float
    steps: int
    own_keys: bool
    views: Tensor


def train(problem: Problem, channels: Tensor, *, selected: bool, settings: CacheTrainingSettings, seed: int) -> State:
    """Train on the shots of a problem; the loss is over the classes that have any.

    Args:
        problem: the shots and the text prototypes.
        channels: [Q] int64, which residuals may move.
        selected: see `functional`.
        settings: of the training.
        seed: of the order of the images and of their views.

    Returns:
        "residual" [K, Q] float32, zero for classes without shots; "weights" [M] float32 in the order of `Cache.of`.
    """
    shots = GroupedShots.from_problem(problem)
    keys = affinity_side(shots.images.cache_keys, channels, selected=selected)
    alpha, beta = shots.training_alpha_beta(keys, logit_scale=problem.logit_scale)
    recipe = _Recipe(alpha, beta, EPSILON, settings.steps(shots), own_keys=False, views=shots.images.views)
    return _train(problem, shots, channels, recipe, selected=selected, settings=settings, seed=seed)


def train_as_published(
    problem: Problem,
    channels: Tensor,
    *,
    selected: bool,
    settings: CacheTrainingSettings,
    alpha: float,
    epsilon: float,
    seed: int,
) -> State:
    """Train as the authors do: own keys vote, beta is 1, and only augmented views are drawn.

    Args:
        problem: see `train`, like the arguments that are not listed.
        channels: see `train`.
        selected: see `train`.
        settings: learning rate, epochs, and the maximum number of steps.
        alpha: weight of the votes while training.
        epsilon: of AdamW.
        seed: see `train`.
    """
    shots = GroupedShots.from_problem(problem)
    steps, views = settings.published_steps(len(shots.ids)), augmented_views(shots.images.views)
    recipe = _Recipe(alpha, TRAINING_BETA, epsilon, steps, own_keys=True, views=views)
    return _train(problem, shots, channels, recipe, selected=selected, settings=settings, seed=seed)


def _train(
    problem: Problem,
    shots: GroupedShots,
    channels: Tensor,
    recipe: _Recipe,
    *,
    selected: bool,
    settings: CacheTrainingSettings,
    seed: int,
) -> State:
    text, views = problem.class_embeddings[shots.classes], normalize(recipe.views, dim=-1)
    keys = affinity_side(shots.images.cache_keys, channels, selected=selected)
    alpha, beta = recipe.alpha, recipe.beta

    def loss(learned: Mapping[str, Tensor], batch: Tensor, generator: torch.Generator) -> Tensor:
        features = draw_views(views, batch, generator=generator)
        cosines = keys @ affinity_side(features, channels, selected=selected).T
        hidden = cosines.masked_fill(shots.hidden(batch, own_keys=recipe.own_keys), float("-inf"))
        votes = weighted_votes(hidden, learned["weights"], shots.counts, beta=beta)
        moved = shifts(features, learned["residual"], channels, selected=selected)
        logits = moved_logits(features, text, votes, moved, alpha=alpha, beta=beta, logit_scale=problem.logit_scale)
        return cross_entropy(logits, shots.images.labels[batch])

    def optimizer(parameters: Iterable[Tensor]) -> Optimizer:
        return AdamW(parameters, lr=settings.learning_rate, eps=recipe.epsilon, weight_decay=0.1)

    start = {"residual": text.new_zeros(len(text), len(channels)), "weights": text.new_ones(len(keys))}
    learned = descend(
        start,
        loss,
        optimizer=optimizer,
        rows=len(keys),
        batch_size=settings.batch_size,
        steps=recipe.steps,
        seed=seed,
    )
    residual = problem.class_embeddings.new_zeros(problem.num_classes, len(channels))
    residual[shots.classes] = learned["residual"]
    return {"residual": residual, "weights": learned["weights"][shots.cache_order]}
