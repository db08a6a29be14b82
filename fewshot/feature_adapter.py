"""CLIP-Adapter's bottleneck (Gao et al. 2021, arXiv 2110.04544, eq. 3-6): a small network on frozen image features.

    f' = norm(r A(f) + (1 - r) f)        A(f) = ReLU(f W1) W2        logits = s f' W^T

In the paper the network takes raw features f, in this library unit rows. The result is the same: without biases
A(c f) = c A(f) for c > 0, so f' does not depend on the length of f, and with unit rows no hyperparameter depends on the
scale of a backbone's features.

The learning rates of paper and code differ (1e-5; 2e-3 with SGD). Their SGD makes hardly any progress in a few hundred
steps, while AdamW at 3e-3 was within a point of the best of ten settings on each of three sets (see
`FeatureAdapterSettings`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torch.optim import AdamW, Optimizer

from fewshot.optimization.descent import Rate, cosine, descend
from fewshot.optimization.shots import Shots, augmented_views, draw_views
from fewshot.problem import Problem
from fewshot.prompt_learning.learning_rate import make_optimizer, published_rate

REDUCTION = 4
"""Width of the features over width of the bottleneck; 4 is best in the paper's ablation."""
RATIOS = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Residual ratios to choose from after the training."""
LEARNING_RATE = 3e-3
STEPS = 400
PUBLISHED_RATIO = 0.2
PUBLISHED_LEARNING_RATE = 2e-3
PUBLISHED_BATCH_SIZE = 32
PUBLISHED_EPOCHS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureAdapterSettings:
    """Settings of the training of a bottleneck; it takes about half a second of one core for 81 classes of 16 shots.

    Attributes:
        residual_ratio: r while training, in [0, 1]; as in the authors' code. The weights of the network can grow, so r
            sets the pace of the training, not a limit; another r may be used afterwards.
        learning_rate: peak of AdamW without weight decay, along half a cosine.
        steps: number of steps; each uses one stored view of a shot.
        batch_size: maximum number of shots in a step.
        second_relu: whether another ReLU follows W2, as in the authors' code.
    """

    residual_ratio: float = 0.2
    learning_rate: float = LEARNING_RATE
    steps: int = STEPS
    batch_size: int = 64
    second_relu: bool = False


def adapted(features: Tensor, network: Mapping[str, Tensor], *, residual_ratio: float, second_relu: bool) -> Tensor:
    """Return norm(r A(f) + (1 - r) f).

    Args:
        features: [B, D] float32, unit rows.
        network: "down" [D, H] and "up" [H, D] float32.
        residual_ratio: r in [0, 1]; 0 returns the features unchanged, bit for bit.
        second_relu: see `FeatureAdapterSettings`.

    Returns:
        [B, D] float32, unit rows; a row with A(f) = 0 and r = 1 is zero.
    """
    if residual_ratio == 0.0:
        return features
    learned = torch.relu(features @ network["down"]) @ network["up"]
    if second_relu:
        learned = torch.relu(learned)
    return normalize(torch.lerp(features, learned, residual_ratio), dim=1)


def initial_network(dim: int, *, seed: int) -> dict[str, Tensor]:
    """Return two linear maps, initialised as PyTorch does, without biases: "down" [D, D // 4] and "up" [D // 4, D]."""
    hidden = max(1, dim // REDUCTION)
    generator = torch.Generator().manual_seed(seed)
    shapes = {"down": (dim, hidden), "up": (hidden, dim)}
    return {
        name: torch.rand(shape, generator=generator).mul_(2.0).sub_(1.0).div_(shape[0] ** 0.5)
        for name, shape in shapes.items()
    }


def train_bottleneck_on_shots(problem: Problem, *, settings: FeatureAdapterSettings, seed: int) -> dict[str, Tensor]:
    """Run `train_bottleneck` on a problem's shots; classes without shots are left out of the loss."""
    shots = Shots.from_problem(problem)
    rows = problem.class_embeddings[shots.classes]
    return train_bottleneck(
        shots.views, shots.labels, rows, logit_scale=problem.logit_scale, settings=settings, seed=seed
    )


def published_steps(images: int) -> int:
    """Return the number of steps of the published epochs over a number of images."""
    return PUBLISHED_EPOCHS * -(-images // PUBLISHED_BATCH_SIZE)


def train_bottleneck_as_published(
    problem: Problem, *, settings: FeatureAdapterSettings, seed: int
) -> dict[str, Tensor]:
    """Train on a problem's shots as the authors' code does: SGD in CoOp's schedule, on augmented views alone.

    The rate is 1e-5 in the first epoch, then half a cosine in one step an epoch; momentum is 0.9, weight decay 5e-4.
    """
    shots = Shots.from_problem(problem)
    epoch = -(-len(shots.labels) // settings.batch_size)
    return train_bottleneck(
        augmented_views(shots.views),
        shots.labels,
        problem.class_embeddings[shots.classes],
        logit_scale=problem.logit_scale,
        settings=settings,
        seed=seed,
        optimizer=make_optimizer("sgd", settings.learning_rate),
        rate=published_rate(max(1, settings.steps // max(1, epoch))),
    )


def train_bottleneck(
    views: Tensor,
    labels: Tensor,
    rows: Tensor,
    *,
    logit_scale: float,
    settings: FeatureAdapterSettings,
    seed: int,
    optimizer: Callable[[Iterable[Tensor]], Optimizer] | None = None,
    rate: Rate = cosine,
) -> dict[str, Tensor]:
    """Minimise the cross-entropy of adapted features against frozen class rows.

    Features may be real or synthetic. The order of rows and classes affects the last bits: see
    `fewshot.optimization.shots`.

    Args:
        views: [M, V, D] float32, of any length but zero; each step uses one of the V views of a row.
        labels: [M] int64 in [0, k).
        rows: [k, D] float32, unit rows.
        logit_scale: the backbone's.
        settings: schedule of the training.
        seed: of the initialisation, the order and the views.
        optimizer: makes the optimizer; None makes AdamW without weight decay.
        rate: the schedule of the learning rate.

    Returns:
        The network, see `adapted`. For M = 0 its "up" is zero, so that it adds nothing.
    """
    start = initial_network(views.shape[-1], seed=seed)
    if not len(labels):
        return start | {"up": torch.zeros_like(start["up"])}
    unit = normalize(views, dim=-1)

    def loss(network: Mapping[str, Tensor], batch: Tensor, generator: torch.Generator) -> Tensor:
        drawn = draw_views(unit, batch, generator=generator)
        features = adapted(drawn, network, residual_ratio=settings.residual_ratio, second_relu=settings.second_relu)
        return cross_entropy(logit_scale * features @ rows.T, labels[batch])

    return descend(
        start,
        loss,
        optimizer=optimizer or partial(AdamW, lr=settings.learning_rate, weight_decay=0.0),
        rows=len(labels),
        batch_size=settings.batch_size,
        steps=settings.steps,
        seed=seed,
        rate=rate,
    )
