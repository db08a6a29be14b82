"""AdamW along half a cosine, written out in float64: what training loops with all their constants are held to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def minimise(
    start: Mapping[str, Tensor],
    loss: Callable[[Mapping[str, Tensor]], Tensor],
    *,
    steps: int,
    rate: float,
    eps: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
) -> dict[str, Tensor]:
    """Return the parameters after so many steps on one batch of everything."""
    values = {name: tensor.detach().double() for name, tensor in start.items()}
    first = {name: torch.zeros_like(value) for name, value in values.items()}
    second = {name: torch.zeros_like(value) for name, value in values.items()}
    for step in range(steps):
        parameters = {name: value.clone().requires_grad_() for name, value in values.items()}
        loss(parameters).backward()
        now = rate * 0.5 * (1.0 + math.cos(math.pi * step / steps))
        for name, parameter in parameters.items():
            gradient = parameter.grad
            first[name] = betas[0] * first[name] + (1.0 - betas[0]) * gradient
            second[name] = betas[1] * second[name] + (1.0 - betas[1]) * gradient**2
            mean = first[name] / (1.0 - betas[0] ** (step + 1))
            size = (second[name] / (1.0 - betas[1] ** (step + 1))).sqrt()
            values[name] = values[name] * (1.0 - now * weight_decay) - now * mean / (size + eps)
    return values
