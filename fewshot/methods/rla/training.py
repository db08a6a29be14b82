"""The training of RLA's map, as the solution of an optimisation and not as a number of steps at some rate.

The paper's 300 full-batch steps of Adam give the same accuracy at learning rates from 1e-5 to 1e-2, so the objective
determines the result. It is minimised here by L-BFGS, without a learning rate and without random numbers. Images have a
common mean, so that the objective is a thousand times as steep in one direction as in others: the map is solved for in
coordinates in which the images have about the same spread in all directions, which halves the number of steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.optim import LBFGS

from fewshot.key_value_cache.kernel import segment_sum
from fewshot.methods.rla.functional import Targets, objective
from fewshot.optimization.content_order import image_ids
from fewshot.optimization.shots import Shots
from fewshot.problem import Labelled, Problem

HISTORY = 10
"""Past gradients of L-BFGS; each has D^2 numbers."""
MAX_LOGITS = 6 * 2**20
"""Rows times classes of a training: 6,291 images for a thousand classes, which take about 12 s of one core. Of more
images, as many of each class; the class means are those of all."""
TOLERANCE = 1e-4
"""Largest entry of the gradient at which to stop."""


@dataclass(frozen=True, kw_only=True)
class RlaSettings:
    """Settings of the training.

    Attributes:
        penalty: lambda times S, >= 0.
        image_loss: weight g of the cross-entropy against the class means, >= 0.
        steps: of L-BFGS at most, >= 0.
    """

    penalty: float = 1.0
    image_loss: float = 1.0
    steps: int = 20


def train_shift(problem: Problem, *, settings: RlaSettings) -> Tensor:
    """Return Z [D, D] float32, learned from the shots; classes without any are left out of the softmax."""
    shots = Shots.from_problem(problem)
    D = problem.class_embeddings.shape[1]
    if not len(shots.labels) or not settings.steps:
        return problem.class_embeddings.new_zeros(D, D)
    features, labels, targets = _training_rows(problem, shots, settings)
    decay = settings.penalty * len(shots.classes) / len(shots.labels)
    basis = _even_basis(features)
    at = torch.zeros(D, D, dtype=torch.float64)

    def gradient_at() -> float:
        value, gradient = objective(features, labels, targets, basis @ at, logit_scale=problem.logit_scale, decay=decay)
        at.grad = basis.T @ gradient
        return value

    LBFGS(
        [at],
        max_iter=settings.steps,
        history_size=HISTORY,
        tolerance_grad=TOLERANCE,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    ).step(gradient_at)  # type: ignore[no-untyped-call]
    return (basis @ at).float()


def _training_rows(problem: Problem, shots: Shots, settings: RlaSettings) -> tuple[Tensor, Tensor, list[Targets]]:
    """Return features [R, D], labels [R] in [0, k) and the targets of both cross-entropies."""
    images = Labelled(shots.views, shots.labels)
    means, others, has_others = class_means_without(images, len(shots.classes))
    rows, views = _even_rows(shots, limit=max(1, MAX_LOGITS // len(shots.classes)))
    weights = torch.full((len(rows),), 1.0 / len(rows))
    text = Targets(problem.class_embeddings[shots.classes], None, weights)
    features = normalize(shots.views[rows, views], dim=1)
    if not settings.image_loss:
        return features, shots.labels[rows], [text]
    image = Targets(means, others[rows], settings.image_loss * weights * has_others[rows])
    return features, shots.labels[rows], [text, image]


def class_means_without(images: Labelled, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean key of each class, and that of each image's class without the image and its repetitions.

    Args:
        images: M images, each class with at least one.
        num_classes: k.

    Returns:
        [k, D] and [M, D] float32, unit rows; and [M] bool, whether the class has another image; if not, the row is 0.
    """
    keys, labels = images.cache_keys, images.labels
    order = labels.argsort(stable=True)
    sums = segment_sum(keys[order], torch.bincount(labels, minlength=num_classes))
    named = torch.stack([labels, image_ids(images)])
    _, place, repetitions = torch.unique(named, dim=1, return_inverse=True, return_counts=True)
    times = repetitions[place]
    has_others = torch.bincount(labels, minlength=num_classes)[labels] > times
    others = normalize(sums[labels] - times[:, None] * keys, dim=1) * has_others[:, None]
    return normalize(sums, dim=1), others, has_others


def _even_rows(shots: Shots, *, limit: int) -> tuple[Tensor, Tensor]:
    """Return image and view [R] of at most `limit` views: those of one image of each class first, and view 0 first."""
    seen: dict[int, int] = {}
    turns = []
    for label in shots.labels.tolist():
        turns.append(seen.get(label, 0))
        seen[label] = turns[-1] + 1
    order = torch.tensor(turns).argsort(stable=True)
    M, V = shots.views.shape[:2]
    return order.repeat(V)[:limit], torch.arange(V).repeat_interleave(M)[:limit]


def _even_basis(features: Tensor) -> Tensor:
    """Return B [D, D] float64 such that rows x B spread about alike in all directions but those without images."""
    wide = features.double()
    products = wide.T @ wide / len(wide)
    D = len(products)
    even = products * (D / products.trace().clamp_min(1e-30)) + torch.eye(D, dtype=torch.float64)
    basis: Tensor = torch.linalg.solve_triangular(
        torch.linalg.cholesky(even).T, torch.eye(D, dtype=torch.float64), upper=True
    )
    return basis
