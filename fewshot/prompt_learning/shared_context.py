"""CoOp (Zhou et al. 2022, arXiv 2109.01134): the words of a prompt as free vectors, learned through the text tower.

    logits = s · f · W(context)^T          cross-entropy; only the context is learned, everything else is frozen

Where we differ from the authors' code: the image tower is frozen, so each step draws one of the stored views of every
image instead of augmenting anew. The class rows W cost the text tower's forward and backward pass, the images next to
nothing, so a step takes (up to `batch_size`) all images, and a few dozen such steps with Adam replace the 50 to 200
epochs of 32 images with stochastic gradient descent; that schedule is there, too (`optimizer`). A step over many
classes tells apart a sample of them. Classes without examples take no part in the loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from fewshot.optimization.descent import Loss
from fewshot.optimization.shots import draw_views
from fewshot.prompt_learning.context_training import ContextTrainingSettings, sampled_classes
from fewshot.prototypes import text_logits

if TYPE_CHECKING:
    from fewshot.backbones.text_tower import Position, Prompts, TextTower


def learn_context(
    tower: TextTower,
    names: Sequence[str],
    views: Tensor,
    labels: Tensor,
    settings: ContextTrainingSettings,
    *,
    logit_scale: float,
    seed: int,
) -> Tensor:
    """Learn a context from images, real or not.

    Args:
        tower: of the backbone.
        names: k names as people say them.
        views: [M, V, D] float32, see `Labelled.views`; the order of the images matters (see
            `fewshot.optimization.shots`).
        labels: [M] int64 in [0, k).
        settings: how to learn.
        logit_scale: s, the backbone's.
        seed: of the start, the order, the views and the sampled classes.

    Returns:
        [m, w] float32, m the length of the context; [k, m, w] if it is class-specific. Without an image, the start,
        which is the same for all.
    """
    start = settings.start(tower, seed=seed)
    if not len(labels):
        return start
    if settings.class_specific:
        start = start.expand(len(names), -1, -1)
    prompts = tower.prompts(names, context=start.shape[-2], position=settings.position)
    loss = _loss(tower, prompts, views, labels, settings, logit_scale=logit_scale)
    return settings.descend({"context": start}, loss, images=len(labels), seed=seed)["context"]


def _loss(
    tower: TextTower,
    prompts: Prompts,
    views: Tensor,
    labels: Tensor,
    settings: ContextTrainingSettings,
    *,
    logit_scale: float,
) -> Loss:
    def loss(parameters: Mapping[str, Tensor], rows: Tensor, generator: torch.Generator) -> Tensor:
        classes = sampled_classes(labels[rows], num_classes=len(prompts), count=settings.classes, generator=generator)
        rows = rows[torch.isin(labels[rows], classes)]
        context = parameters["context"]
        text = normalize(tower.encode(prompts[classes], context[classes] if context.ndim == 3 else context), dim=1)
        features = normalize(draw_views(views, rows, generator=generator), dim=1).to(text.device)
        targets = torch.searchsorted(classes, labels[rows]).to(text.device)
        return cross_entropy(text_logits(features, text, logit_scale=logit_scale), targets)

    return loss


@torch.no_grad()
def context_rows(tower: TextTower, names: Sequence[str], context: Tensor, *, position: Position = "end") -> Tensor:
    """The classifier that a context makes of names, of which it need not have seen any.

    Args:
        tower: of the backbone.
        names: K names as people say them.
        context: [m, w] float32, or [K, m, w].
        position: of the name.

    Returns:
        [K, D] float32 on the CPU, unit rows.
    """
    prompts = tower.prompts(names, context=context.shape[-2], position=position)
    return normalize(tower.encode(prompts, context), dim=1).cpu()
