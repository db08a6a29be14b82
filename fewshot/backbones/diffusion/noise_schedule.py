"""The noise schedule of a diffusion model: signal and noise at each time-step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fewshot.errors import BackboneError

MAX_STEPS = 100_000
"""Steps of the longest schedule that is read; published ones have 1,000."""


def alphas_cumprod(schedule: Mapping[str, Any]) -> Tensor:
    """Compute the share of signal at each time-step, which diffusers computes in float32, in float64.

    Args:
        schedule: the content of a `scheduler_config.json`.

    Returns:
        [T] float64 in (0, 1), falling.

    Raises:
        BackboneError: the kind of schedule is unknown, or its numbers are out of range.
    """
    if schedule.get("rescale_betas_zero_snr"):
        raise BackboneError("rescale_betas_zero_snr is not supported: its last step has no signal to compare")
    try:
        betas = _betas(schedule)
    except BackboneError:
        raise
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise BackboneError(f"cannot read the numbers of the noise schedule: {error}") from error
    if betas.ndim != 1 or not len(betas) or not bool(((betas > 0) & (betas < 1)).all()):
        raise BackboneError("the betas of the noise schedule must be a list of numbers in (0, 1)")
    return torch.cumprod(1.0 - betas, dim=0)


def noise_levels(alphas_cumprod: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factors of signal and noise.

    Args:
        alphas_cumprod: [T] float64.
        steps: [B] int64 in [0, T).

    Returns:
        sqrt(a) and sqrt(1 - a), [B] float32 on the CPU, rounded once: in half precision 1 - a would be wrong by up to
        15 % at small steps.
    """
    share = alphas_cumprod[steps.cpu()]
    return share.sqrt().float(), (1.0 - share).sqrt().float()


def add_noise(latents: Tensor, noise: Tensor, steps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Return noisy latents: sqrt(a) z + sqrt(1 - a) eps.

    Args:
        latents: z [B, C, h, w] float32.
        noise: eps [B, C, h, w] float32, on the same device.
        steps: [B] int64 in [0, T).
        alphas_cumprod: a [T] float64 on the CPU.

    Returns:
        [B, C, h, w] float32, on the device of `latents`.
    """
    signal, spread = (part.to(latents.device)[:, None, None, None] for part in noise_levels(alphas_cumprod, steps))
    return signal * latents + spread * noise


def _betas(schedule: Mapping[str, Any]) -> Tensor:
    if schedule.get("trained_betas") is not None:
        return torch.tensor(schedule["trained_betas"], dtype=torch.float64)
    start, end = float(schedule.get("beta_start", 1e-4)), float(schedule.get("beta_end", 0.02))
    steps, kind = int(schedule.get("num_train_timesteps", 1000)), schedule.get("beta_schedule", "linear")
    if not 1 <= steps <= MAX_STEPS:
        raise BackboneError(f"num_train_timesteps must be in [1, {MAX_STEPS}], got {steps}")
    if kind == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
    if kind == "linear":
        return torch.linspace(start, end, steps, dtype=torch.float64)
    raise BackboneError(f"unknown beta_schedule {kind!r}; expected 'scaled_linear', 'linear' or trained_betas")
