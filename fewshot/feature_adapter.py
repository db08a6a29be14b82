"""CLIP-Adapter's bottleneck (Gao et al. 2021, arXiv 2110.04544, eq. 3-6): a small network behind the image tower.

    f' = norm(r A(f) + (1 - r) f)        A(f) = ReLU(f W1) W2        logits = s f' W^T

The paper gives the network raw features f, where the rest of this library has unit rows. Both are the same thing here:
without biases A(c f) = c A(f) for c > 0, so f' does not depend on the length of f. Unit rows are used throughout, and
no hyperparameter depends on the scale of a backbone's features.

The learning rate is contradictory in paper and code (1e-5; 2e-3 with SGD); their SGD barely moves on a few hundred
steps, while AdamW at 3e-3 was within a point of the best of ten settings on each of three sets (see
`FeatureAdapterSettings`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torch.optim import AdamW, Optimizer

from fewshot.optimization.descent import descend
from fewshot.optimization.shots import Shots, draw_views
from fewshot.problem import Problem

REDUCTION = 4
"""Width of the features over width of the bottleneck; the paper's ablation prefers 4."""
RATIOS = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Shares of the network to try after its training."""
LEARNING_RATE = 3e-3
STEPS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureAdapterSettings:
    """How a bottleneck is trained; the defaults take about half a second of one core for 81 classes of 16 shots.

    Attributes:
        residual_ratio: r while training, in [0, 1]; as in the authors' code. The network can grow, so that r sets the
            pace rather than a bound; another r may be used afterwards.
        learning_rate: peak of AdamW without weight decay, along half a cosine.
        steps: of at most `batch_size` shots, one cached view of each.
        batch_size: shots in a step, at most.
        second_relu: another ReLU after W2, as in the authors' code.
    """

    residual_ratio: float = 0.2
    learning_rate: float = LEARNING_RATE
    steps: int = STEPS
    batch_size: int = 64
    second_relu: bool = False


def adapted(features: Tensor, network: Mapping[str, Tensor], *, residual_ratio: float, second_relu: bool) -> Tensor:
    """norm(r A(f) + (1 - r) f).

    Args:
        features: [B, D] float32, unit rows.
        network: "down" [D, H] and "up" [H, D] float32.
        residual_ratio: r in [0, 1]; 0 gives the features as they are, bit for bit.
        second_relu: see `FeatureAdapterSettings`.

    Returns:
        [B, D] float32, unit rows; a row for which r = 1 leaves nothing is zero.
    """
    if residual_ratio == 0.0:
        return features
    learned = torch.relu(features @ network["down"]) @ network["up"]
    if second_relu:
        learned = torch.relu(learned)
    return normalize(torch.lerp(features, learned, residual_ratio), dim=1)


def initial_network(dim: int, *, seed: int) -> dict[str, Tensor]:
    """Two linear maps without biases, uniform as PyTorch begins them: "down" [D, D // 4], "up" [D // 4, D]."""
    hidden = max(1, dim // REDUCTION)
    generator = torch.Generator().manual_seed(seed)
    shapes = {"down": (dim, hidden), "up": (hidden, dim)}
    return {
        name: torch.rand(shape, generator=generator).mul_(2.0).sub_(1.0).div_(shape[0] ** 0.5)
        for name, shape in shapes.items()
    }


def train_bottleneck_on_shots(problem: Problem, *, settings: FeatureAdapterSettings, seed: int) -> dict[str, Tensor]:
    """`train_bottleneck` on a problem's shots; the loss is over the classes that have some."""
    shots = Shots.from_problem(problem)
    rows = problem.class_embeddings[shots.classes]
    return train_bottleneck(
        shots.views, shots.labels, rows, logit_scale=problem.logit_scale, settings=settings, seed=seed
    )


def train_bottleneck(
    views: Tensor, labels: Tensor, rows: Tensor, *, logit_scale: float, settings: FeatureAdapterSettings, seed: int
) -> dict[str, Tensor]:
    """Minimise the cross-entropy of adapted features against frozen class rows.

    Whether features are real or made plays no part. The order of rows and classes does, in the last bits: see
    `fewshot.optimization.shots`.

    Args:
        views: [M, V, D] float32, of any length but zero; each step sees one of the V of a row.
        labels: [M] int64 in [0, k).
        rows: [k, D] float32, unit rows.
        logit_scale: the backbone's.
        settings: how.
        seed: of the start, the order and the views.

    Returns:
        The network, see `adapted`. With M = 0 it does nothing: "up" is zero.
    """
    start = initial_network(views.shape[-1], seed=seed)
    if not len(labels):
        return start | {"up": torch.zeros_like(start["up"])}
    unit = normalize(views, dim=-1)

    def loss(network: Mapping[str, Tensor], batch: Tensor, generator: torch.Generator) -> Tensor:
        seen = draw_views(unit, batch, generator=generator)
        features = adapted(seen, network, residual_ratio=settings.residual_ratio, second_relu=settings.second_relu)
        return cross_entropy(logit_scale * features @ rows.T, labels[batch])

    def optimizer(parameters: Iterable[Tensor]) -> Optimizer:
        return AdamW(parameters, lr=settings.learning_rate, weight_decay=0.0)

    return descend(
        start,
        loss,
        optimizer=optimizer,
        rows=len(labels),
        batch_size=settings.batch_size,
        steps=settings.steps,
        seed=seed,
    )
