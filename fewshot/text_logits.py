"""Zero-shot CLIP (Radford et al. 2021, arXiv 2103.00020): the term that every adapter adds to."""

from __future__ import annotations

from torch import Tensor


def text_logits(features: Tensor, text: Tensor, *, logit_scale: float) -> Tensor:
    """logit_scale * features @ text.T.

    Args:
        features: [B, D] float32, unit rows.
        text: [K, D] float32, unit rows.
        logit_scale: the backbone's; 100 for CLIP.

    Returns:
        [B, K] float32.
    """
    return logit_scale * (features @ text.T)
