"""CoCoOp (Zhou et al. 2022, arXiv 2203.05557): a context that is shifted for every image by a small network.

    v_m(x) = context_m + h(x)       h: D -> D/16 -> w, ReLU between, on the unit feature x

Every image has its own prompts, so a step over b images and c classes encodes b · c sequences, and so does inference.
Differences from the authors' code: a step takes several images and, if there are many classes, a sample of the classes
that includes those of the images (the authors take one image and all classes, for ten epochs); every step draws one of
the stored views; Adam replaces stochastic gradient descent, as for CoOp. The network's last layer is initialised with
zeros, so that training starts like CoOp's: in so few steps, the random shift of PyTorch's initialisation would not be
removed (accuracy of the prompts alone on TrashNet with 16 shots, embedded CLIP: 0.52 against 0.41).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, normalize

from fewshot.optimization.descent import Loss
from fewshot.optimization.shots import draw_views
from fewshot.prompt_learning.context_training import ContextTrainingSettings, sampled_classes

if TYPE_CHECKING:
    from fewshot.backbones.text_tower import Prompts, TextTower

Weights = Mapping[str, Tensor]
"""context [m, w], down.weight [D / 16, D], down.bias [D / 16], up.weight [w, D / 16], up.bias [w]; float32."""

BOTTLENECK = 16
"""Width of the features over width of the hidden layer."""


def shifts(weights: Weights, features: Tensor) -> Tensor:
    """Return the shifts h of the context: [B, w] float32, of features [B, D], unit rows."""
    hidden = torch.relu(linear(features, weights["down.weight"], weights["down.bias"]))
    return linear(hidden, weights["up.weight"], weights["up.bias"])


def shifted_rows(tower: TextTower, prompts: Prompts, weights: Weights, shift: Tensor, *, batch: int | None) -> Tensor:
    """Return the class rows of each image.

    Args:
        tower: the text tower of the backbone.
        prompts: B · c sequences, image by image.
        weights: see `Weights`.
        shift: [B, w] float32, see `shifts`.
        batch: see `TextTower.encode`.

    Returns:
        [B, c, D] float32, unit rows, on the tower's device.
    """
    context = weights["context"] + shift[:, None]
    contexts = context.repeat_interleave(len(prompts) // len(shift), dim=0)
    return normalize(tower.encode(prompts, contexts, batch=batch), dim=1).view(len(shift), -1, tower.dim)


def initial_weights(tower: TextTower, settings: ContextTrainingSettings, *, seed: int) -> dict[str, Tensor]:
    """Return the initial context, and a network with shifts of zero: the last layer is zero (see the module).

    The first layer is initialised as PyTorch does, uniformly within 1 / sqrt(D).
    """
    generator = torch.Generator().manual_seed(seed)
    hidden, bound = max(1, tower.dim // BOTTLENECK), tower.dim**-0.5
    return {
        "context": settings.start(tower, seed=seed),
        "down.weight": torch.empty(hidden, tower.dim).uniform_(-bound, bound, generator=generator),
        "down.bias": torch.empty(hidden).uniform_(-bound, bound, generator=generator),
        "up.weight": torch.zeros(tower.width, hidden),
        "up.bias": torch.zeros(tower.width),
    }


def learn_shifted_context(
    tower: TextTower,
    names: Sequence[str],
    views: Tensor,
    labels: Tensor,
    settings: ContextTrainingSettings,
    *,
    logit_scale: float,
    seed: int,
) -> dict[str, Tensor]:
    """Train a context and the network that shifts it.

    Args:
        tower: the text tower of the backbone.
        names: k prompt names.
        views: [M, V, D] float32, see `Labelled.views`; the order of the images matters (see
            `fewshot.optimization.shots`).
        labels: [M] int64 in [0, k).
        settings: settings of the training; the context is shared by all classes.
        logit_scale: s, the backbone's.
        seed: of the initialisation, the order, the views and the sampled classes.

    Returns:
        See `Weights`; the initial weights if there are no images.
    """
    start = initial_weights(tower, settings, seed=seed)
    if not len(labels):
        return start
    prompts = tower.prompts(names, context=len(start["context"]), position=settings.position)
    loss = _loss(tower, prompts, views, labels, settings, logit_scale=logit_scale)
    return settings.descend(start, loss, images=len(labels), seed=seed)


def _loss(
    tower: TextTower,
    prompts: Prompts,
    views: Tensor,
    labels: Tensor,
    settings: ContextTrainingSettings,
    *,
    logit_scale: float,
) -> Loss:
    def loss(weights: Weights, rows: Tensor, generator: torch.Generator) -> Tensor:
        classes = sampled_classes(labels[rows], num_classes=len(prompts), count=settings.classes, generator=generator)
        rows = rows[torch.isin(labels[rows], classes)]
        features = normalize(draw_views(views, rows, generator=generator), dim=1)
        sequences = prompts[classes.repeat(len(rows))]
        text = shifted_rows(tower, sequences, weights, shifts(weights, features), batch=None)
        logits = logit_scale * (text @ features.to(text.device)[:, :, None]).squeeze(2)
        return cross_entropy(logits, torch.searchsorted(classes, labels[rows]).to(text.device))

    return loss
