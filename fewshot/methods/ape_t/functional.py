"""APE-T (Zhu et al. 2023, arXiv 2304.01195, section 4.3; the variant of the authors' code) as functions of tensors.

    W~ = W + Pad(Res)     F~_j = F_j + Pad(Res[y_j])     (zeros off the Q kept channels, not renormalised)
    logits_k = s x W~_k + alpha sum over j of class k: v_j exp(-beta (1 - x F~_j))

All keys of a class move alike, so with U = x_Q Res^T this is exactly

    logits_k = s (x W_k + U_k) + alpha exp(beta U_k) sum_j v_j exp(-beta (1 - x F_j))

and no key is ever cloned or moved. With `selected`, the affinity x F_j is the cosine on the kept channels (the figure
of the paper); U is then divided by the length of x_Q there, and the text term stays as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fewshot.key_value_cache.channels import on_channels
from fewshot.key_value_cache.kernel import kernel, segment_sum
from fewshot.prototypes import text_logits


def affinity_side(rows: Tensor, channels: Tensor, *, selected: bool) -> Tensor:
    """Return the part of features or keys [B, D] that is compared: [B, Q] unit rows if `selected`, else the rows."""
    return on_channels(rows, channels) if selected else rows


def shifts(features: Tensor, residual: Tensor, channels: Tensor, *, selected: bool) -> tuple[Tensor, Tensor]:
    """Measure how far the residuals move the cosines of images.

    Args:
        features: [B, D] float32, unit rows.
        residual: [K, Q] float32.
        channels: [Q] int64.
        selected: see the module.

    Returns:
        [B, K] float32 each: of its cosines with the text, and with the keys of a class.
    """
    kept = features[:, channels]
    moved = kept @ residual.T
    return moved, moved / kept.norm(dim=1, keepdim=True).clamp(min=1e-12) if selected else moved


def weighted_votes(cosines: Tensor, weights: Tensor, counts: Tensor, *, beta: float) -> Tensor:
    """Sum v exp(-beta (1 - cosine)) over each class, for cosines [M, B] and weights v [M]; [B, K] float32."""
    return segment_sum(kernel(cosines, beta=beta) * weights[:, None], counts).T


def moved_logits(
    features: Tensor,
    text: Tensor,
    votes: Tensor,
    moved: tuple[Tensor, Tensor],
    *,
    alpha: float,
    beta: float,
    logit_scale: float,
) -> Tensor:
    """Compute the logits in the factorised form.

    Args:
        features: [B, D] float32, unit rows.
        text: [K, D] float32, unit rows.
        votes: [B, K] float32, of the keys where they were, at this beta.
        moved: from `shifts`.
        alpha: weight of the votes, >= 0.
        beta: how fast a vote falls with the distance, >= 0.
        logit_scale: s.

    Returns:
        [B, K] float32.
    """
    of_text, of_keys = moved
    zero_shot = text_logits(features, text, logit_scale=logit_scale)
    return zero_shot + logit_scale * of_text + alpha * torch.exp(beta * of_keys) * votes
