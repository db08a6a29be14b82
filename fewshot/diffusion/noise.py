"""The noise of an image at a time-step: a function of its arguments, so that whoever asks sees the same.

All classes, stages and workers compare on the same (t, epsilon), which cancels most of the variance of a difference
between two classes (Diffusion Classifier, arXiv 2303.16203), and a resumed run gives the same labels. The authors' code
draws noise afresh for each image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fewshot.backbones.diffusion.diffusion_backbone import levels
from fewshot.diffusion.streams import stream


def noise_for(seed: int, key: str, step: int, shape: Sequence[int]) -> Tensor:
    """Standard normal noise.

    Args:
        seed: of the run.
        key: of the image.
        step: time-step in [0, T).
        shape: (C, h, w).

    Returns:
        float32 of that shape, on the CPU.
    """
    return torch.randn(*shape, generator=stream(seed, "noise", key, step))


def noised(latents: Tensor, noise: Tensor, steps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """sqrt(a) z + sqrt(1 - a) eps.

    Args:
        latents: z [B, C, h, w] float32.
        noise: eps [B, C, h, w] float32, on the same device.
        steps: [B] int64 in [0, T).
        alphas_cumprod: a [T] float64 on the CPU.

    Returns:
        [B, C, h, w] float32, on the device of `latents`.
    """
    signal, spread = (part.to(latents.device)[:, None, None, None] for part in levels(alphas_cumprod, steps))
    return signal * latents + spread * noise
