"""Training of APE-T: the residuals Res [K, Q], from zero, and the weights v [M] of the keys, from one.

As in the authors' code: AdamW with weight decay 0.1 and eps 1e-3 on both (where gradients are far below eps it is
descent by their size), half a cosine, batches of 256, one view of an image a step, alpha and beta fixed, no epoch
chosen. Where we differ: as in `fewshot.key_value_cache.cache_training`, and for its reasons, an image is not compared
with its own key, alpha and beta are in units of the features, and few shots get more epochs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torch.optim import AdamW, Optimizer

from fewshot.key_value_cache.cache_training import CacheTrainingSettings, GroupedShots
from fewshot.methods.ape_t.functional import affinity_side, moved_logits, shifts, weighted_votes
from fewshot.optimization.descent import descend
from fewshot.optimization.shots import draw_views
from fewshot.optimization.training_cache import State
from fewshot.problem import Problem


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
    text, views = problem.class_embeddings[shots.classes], normalize(shots.images.views, dim=-1)
    keys = affinity_side(shots.images.cache_keys, channels, selected=selected)
    alpha, beta = shots.training_alpha_beta(keys, logit_scale=problem.logit_scale)

    def loss(learned: Mapping[str, Tensor], batch: Tensor, generator: torch.Generator) -> Tensor:
        features = draw_views(views, batch, generator=generator)
        cosines = keys @ affinity_side(features, channels, selected=selected).T
        hidden = cosines.masked_fill(shots.same_image(batch), float("-inf"))
        votes = weighted_votes(hidden, learned["weights"], shots.counts, beta=beta)
        moved = shifts(features, learned["residual"], channels, selected=selected)
        logits = moved_logits(features, text, votes, moved, alpha=alpha, beta=beta, logit_scale=problem.logit_scale)
        return cross_entropy(logits, shots.images.labels[batch])

    def optimizer(parameters: Iterable[Tensor]) -> Optimizer:
        return AdamW(parameters, lr=settings.learning_rate, eps=1e-3, weight_decay=0.1)

    start = {"residual": text.new_zeros(len(text), len(channels)), "weights": text.new_ones(len(keys))}
    learned = descend(
        start,
        loss,
        optimizer=optimizer,
        rows=len(keys),
        batch_size=settings.batch_size,
        steps=settings.steps(shots),
        seed=seed,
    )
    residual = problem.class_embeddings.new_zeros(problem.num_classes, len(channels))
    residual[shots.classes] = learned["residual"]
    return {"residual": residual, "weights": learned["weights"][shots.cache_order]}
