"""Multinomial logistic regression (the linear probe of CLIP, arXiv 2103.00020, in CoOp's protocol) as functions.

    minimise  C * sum of v_i cross-entropies + 1/2 ||W - A||^2        logits = x W^T + b, the intercept b not penalised

The weights v_i of the rows are 1 and the anchor A is 0, unless they are given. With an anchor there is no intercept: it
would be unlimited for a class without rows.

It is solved by L-BFGS, on features from which their mean is taken: as b is free, that is the same problem, but
one that needs a third fewer steps. Products are in float32, sums and the solver in float64; rows go through in blocks,
and there is no one-hot matrix.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.optim import LBFGS

MEMORY_BYTES = 64 * 2**20
"""Budget of the logits of one block of rows."""


class Plane(NamedTuple):
    """A linear map onto classes.

    Attributes:
        weight: [k, D] float64.
        bias: [k] float64.
    """

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Score features [B, D]; [B, k] in their dtype."""
        return torch.addmm(self.bias.to(features), features, self.weight.T.to(features))


def fit_plane(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    c: float,
    start: Plane | None = None,
    weights: Tensor | None = None,
    anchor: Tensor | None = None,
    tolerance: float,
    max_iterations: int,
) -> Plane:
    """Minimise the objective of the module, divided by C M so that the tolerance means the same at each C and M.

    M is the sum of the weights of the rows.

    Args:
        features: [M, D] float32, M >= 1; float64 multiplies in float64.
        labels: [M] int64 in [0, k).
        num_classes: k >= 1.
        c: C > 0; a large one fits the shots, a small one keeps W near zero.
        start: where to begin; None begins at zero, or at the anchor.
        weights: [M] float32, > 0, of the rows; None for 1.
        anchor: [k, D] float64, which the weights are drawn to; None for zero, with an intercept.
        tolerance: the largest entry of the gradient at which to stop, in nats a shot. In float32, rounding can end the
            line search earlier, at an entry of 3e-5.
        max_iterations: of L-BFGS.
    """
    mean, decay = features.double().mean(dim=0), 1.0 / (c * len(features))
    if weights is not None:
        decay, weights = 1.0 / (c * float(weights.double().sum())), weights / weights.sum()
    at = torch.zeros(num_classes, features.shape[1] + 1, dtype=torch.float64)
    if anchor is not None:
        mean, at = torch.zeros_like(mean), pad(anchor, (0, 1))
    if start is not None:
        at = torch.cat([start.weight, (start.bias + start.weight @ mean)[:, None]], dim=1)

    def gradient_at() -> float:
        loss, at.grad = objective(features, labels, mean, at, decay=decay, weights=weights, anchor=anchor)
        return loss

    LBFGS(
        [at], max_iter=max_iterations, tolerance_grad=tolerance, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    ).step(gradient_at)  # type: ignore[no-untyped-call]
    return Plane(at[:, :-1].clone(), at[:, -1] - at[:, :-1] @ mean)


def objective(
    features: Tensor,
    labels: Tensor,
    mean: Tensor,
    at: Tensor,
    *,
    decay: float,
    weights: Tensor | None = None,
    anchor: Tensor | None = None,
) -> tuple[float, Tensor]:
    """Return the mean cross-entropy plus decay / 2 times the squared distance from the anchor, and its gradient.

    Args:
        features: [M, D] float32.
        labels: [M] int64 in [0, k).
        mean: [D] float64, taken from every row.
        at: [k, D + 1] float64, weights and, last, intercepts.
        decay: 1 / (C M).
        weights: [M] float32 with sum 1, shares of the rows in the mean; None for equal ones.
        anchor: see `fit_plane`.

    Returns:
        the value, and [k, D + 1] float64.
    """
    weight = at[:, :-1]
    away = weight if anchor is None else weight - anchor
    loss, gradient = 0.5 * decay * float(away.square().sum()), pad(decay * away, (0, 1))
    rows_a_block = max(1, MEMORY_BYTES // (4 * len(at)))
    plane = Plane(weight, at[:, -1] - weight @ mean)
    for rows in (slice(start, start + rows_a_block) for start in range(0, len(features), rows_a_block)):
        block, own = features[rows], labels[rows]
        logits = plane.logits(block)
        evidence = torch.logsumexp(logits, dim=1, keepdim=True)
        losses = evidence - logits.gather(1, own[:, None])
        surprise = logits.sub_(evidence).exp_()
        surprise[torch.arange(len(own)), own] -= 1.0
        total = float(len(features))
        if weights is not None:
            losses, surprise, total = losses * weights[rows, None], surprise.mul_(weights[rows, None]), 1.0
        loss += float(losses.double().sum()) / total
        gradient[:, :-1] += (surprise.T @ block) / total
        gradient[:, -1] += surprise.sum(dim=0, dtype=torch.float64) / total
    gradient[:, :-1] -= torch.outer(gradient[:, -1], mean)
    if anchor is not None:
        gradient[:, -1] = 0.0
    return loss, gradient


def on_all_classes(plane: Plane, classes: Tensor, num_classes: int) -> Plane:
    """Extend a map to all classes; those not learned lose against each learned one on every unit row.

    Args:
        plane: of k >= 1 classes.
        classes: [k] int64 in [0, K), their labels.
        num_classes: K.

    Returns:
        of K classes. Those not in `classes` have no weight, and an intercept below what any learned class can have on a
        unit row, which is its own intercept minus the length of its weights.
    """
    floor = float((plane.bias - plane.weight.norm(dim=1)).min()) - 1.0
    weight = plane.weight.new_zeros(num_classes, plane.weight.shape[1]).index_copy_(0, classes, plane.weight)
    bias = plane.bias.new_full((num_classes,), floor).index_copy_(0, classes, plane.bias)
    return Plane(weight, bias)
