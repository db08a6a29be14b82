"""Settings that recipes differ in: how classes are compared, what a loss compares, and whose defaults a model takes.

A loss of training compares the noise, or what the UNet predicts. The two are the same for models that predict noise.
From a predicted velocity v the noise is eps = sqrt(a) v + sqrt(1 - a) x_t, so that |eps - eps_hat|^2 = a |v - v_hat|^2:
the noise counts large time-steps less than diffusers' scripts do, which train on the velocity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from fewshot.diffusion.noise_errors import ErrorNorm
from fewshot.diffusion.time_grid import Spacing

if TYPE_CHECKING:
    from fewshot.backbones.diffusion import DiffusionBackbone

LossTarget = Literal["noise", "prediction"]
SMALL_SIDE = 16
"""Models with latents up to this side take the defaults of the embedded one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringSettings:
    """Settings of scoring.

    Attributes:
        spacing: of the time-steps.
        norm: of the noise errors.
    """

    spacing: Spacing = "by-weight"
    norm: ErrorNorm = "l2"


def loss_weights(backbone: DiffusionBackbone, steps: Tensor, target: LossTarget) -> Tensor:
    """Return the factors from squared errors of the noise to those of the target.

    Args:
        backbone: the model.
        steps: [B] int64 in [0, T).
        target: of the loss.

    Returns:
        [B] float32 on the backbone's device: 1, or 1 / a for the prediction of a model that predicts velocity.
    """
    if target == "noise" or backbone.prediction_type == "epsilon":
        return torch.ones(len(steps), device=backbone.device)
    return (1.0 / backbone.alphas_cumprod[steps.cpu()]).float().to(backbone.device)


def is_small(latent_side: int) -> bool:
    """Whether a model is one of small pictures.

    Args:
        latent_side: h = w of its latents; 64 for Stable Diffusion at 512 pixels, 8 for the embedded model.
    """
    return latent_side <= SMALL_SIDE
