"""RLA (the regularised linear adapter of Fahes et al. 2024, arXiv 2410.05270) as functions of tensors.

    f = norm(x + x Z)        minimise  CE(s f T^T) + g CE(s f M^T) + lambda |Z|^2        lambda = penalty / S

Z is what the map A of the paper adds to the identity, T the text embeddings, S the shots of a class. lambda is not
rescaled with the number of channels: the same images in more channels, rotated or padded, have the same solution.

The second term is ours (g = 0 is the paper's): M are the class means, that of an image's own class without the image.
The text is a poor target where names say little, and the only one in the paper; a target that contains the image
itself is reached before anything is learned. With one shot a class there is no other image, and the term is 0.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

MEMORY_BYTES = 64 * 2**20
"""Budget of the logits of one block of rows."""


class Targets(NamedTuple):
    """Rows that features are compared with, and how often it counts.

    Attributes:
        rows: [k, D] float32, unit rows: one for each class.
        own: [R, D] float32: the row of the feature's own class, where it is another one; None if it is not.
        weights: [R] float32, >= 0: of each feature in the mean.
    """

    rows: Tensor
    own: Tensor | None
    weights: Tensor

    def of(self, block: slice) -> Targets:
        """Return the targets of some of the features."""
        return Targets(self.rows, None if self.own is None else self.own[block], self.weights[block])


def mapped(features: Tensor, shift: Tensor) -> Tensor:
    """Return norm(x + x Z), [B, D] float32; features [B, D] unchanged, bit for bit, if the shift Z [D, D] is zero."""
    return normalize(features + features @ shift, dim=1) if bool(shift.any()) else features


def objective(
    features: Tensor, labels: Tensor, targets: list[Targets], shift: Tensor, *, logit_scale: float, decay: float
) -> tuple[float, Tensor]:
    """Return the sum of the cross-entropies and of decay |Z|^2, and its gradient.

    Args:
        features: [R, D] float32, unit rows.
        labels: [R] int64 in [0, k).
        targets: of each cross-entropy.
        shift: [D, D] float64, Z.
        logit_scale: s.
        decay: lambda.

    Returns:
        The value, and [D, D] float64.
    """
    value, gradient, map_rows = decay * float(shift.square().sum()), 2.0 * decay * shift, shift.to(features)
    rows_a_block = max(1, MEMORY_BYTES // (4 * max(len(target.rows) for target in targets)))
    for block in (slice(start, start + rows_a_block) for start in range(0, len(features), rows_a_block)):
        plain, own = features[block], labels[block]
        moved = torch.addmm(plain, plain, map_rows)
        lengths = moved.norm(dim=1, keepdim=True).clamp_min(1e-12)
        unit, slope = moved / lengths, torch.zeros_like(moved)
        for target in targets:
            loss, its_slope = _cross_entropy(unit, own, target.of(block), logit_scale=logit_scale)
            value, slope = value + loss, slope + its_slope
        slope = (slope - unit * (unit * slope).sum(dim=1, keepdim=True)) / lengths
        gradient += (plain.T @ slope).double()
    return value, gradient


def _cross_entropy(unit: Tensor, labels: Tensor, targets: Targets, *, logit_scale: float) -> tuple[float, Tensor]:
    """Return the weighted sum of the cross-entropies of unit rows [B, D], and its gradient, [B, D]."""
    places = labels[:, None]
    logits = logit_scale * (unit @ targets.rows.T)
    if targets.own is not None:
        logits.scatter_(1, places, logit_scale * (unit * targets.own).sum(dim=1, keepdim=True))
    evidence = torch.logsumexp(logits, dim=1, keepdim=True)
    loss = float(((evidence - logits.gather(1, places)).squeeze(1) * targets.weights).double().sum())
    surprise = logits.sub_(evidence).exp_()
    surprise.scatter_add_(1, places, torch.full_like(evidence, -1.0))
    surprise *= logit_scale * targets.weights[:, None]
    if targets.own is None:
        return loss, surprise @ targets.rows
    of_own = surprise.gather(1, places)
    return loss, surprise.scatter_(1, places, 0.0) @ targets.rows + of_own * targets.own
