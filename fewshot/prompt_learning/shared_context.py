"""CoOp (Zhou et al. 2022, arXiv 2109.01134): the words of a prompt as free vectors, trained through the text tower.

    logits = s · f · W(context)^T          cross-entropy; only the context is trained, everything else is frozen

Differences from the authors' code: the image tower is frozen, so each step draws one of the stored views of every image
instead of a new augmentation. The class rows W cost the text tower's forward and backward pass, the images almost
nothing, so a step takes all images (up to `batch_size`), and a few dozen such steps with Adam replace the 50 to 200
epochs of 32 images with stochastic gradient descent; that schedule is available, too (`optimizer`). With many classes,
the softmax of a step is over a sample of them. Classes without examples are left out of the loss.
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
    """Train a context on images, real or synthetic.

    Args:
        tower: the text tower of the backbone.
        names: k prompt names.
        views: [M, V, D] float32, see `Labelled.views`; the order of the images matters (see
            `fewshot.optimization.shots`).
        labels: [M] int64 in [0, k).
        settings: settings of the training.
        logit_scale: s, the backbone's.
        seed: of the initialisation, the order, the views and the sampled classes.

    Returns:
        [m, w] float32, m the length of the context; [k, m, w] if it is class-specific. Without images, the initial
        context [m, w].
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
    """Return the class rows of names with a context; the names need not be those of its training.

    Args:
        tower: the text tower of the backbone.
        names: K prompt names.
        context: [m, w] float32, or [K, m, w].
        position: of the name.

    Returns:
        [K, D] float32 on the CPU, unit rows.
    """
    prompts = tower.prompts(names, context=context.shape[-2], position=position)
    return normalize(tower.encode(prompts, context), dim=1).cpu()
