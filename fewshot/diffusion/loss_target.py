"""What the loss of training compares: the noise, or what the UNet predicts.

The two are the same for models that predict noise. From a predicted velocity v the noise is
eps = sqrt(a) v + sqrt(1 - a) x_t, so that |eps - eps_hat|^2 = a |v - v_hat|^2: the noise counts large time-steps less
than diffusers' scripts do, which train on the velocity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from fewshot.backbones.diffusion import DiffusionBackbone

LossTarget = Literal["noise", "prediction"]


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
