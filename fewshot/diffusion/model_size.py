"""Which hyperparameters a model takes by default: those of small pictures, or those of Stable Diffusion."""

from __future__ import annotations

SMALL_SIDE = 16
"""Models with latents up to this side take the defaults of the embedded one."""


def is_small(latent_side: int) -> bool:
    """Whether a model is one of small pictures.

    Args:
        latent_side: h = w of its latents; 64 for Stable Diffusion at 512 pixels, 8 for the embedded model.
    """
    return latent_side <= SMALL_SIDE
