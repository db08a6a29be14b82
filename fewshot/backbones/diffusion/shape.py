"""Is a folder in diffusers' layout a model of Stable Diffusion's shape? Its configurations tell, before any weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from fewshot.backbones.diffusion.backbone import PredictionType
from fewshot.errors import BackboneError

CLASSES = {
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModel",
    "tokenizer": "CLIPTokenizer",
    "unet": "UNet2DConditionModel",
}


def check_index(name: str, index: Mapping[str, Any]) -> None:
    """Look at a `model_index.json`.

    Raises:
        BackboneError: a part is missing or of another kind (SDXL, SD 3, Flux, PixArt and other transformers).
    """
    kinds = {part: (index.get(part) or [None, None])[1] for part in CLASSES}
    wrong = [
        f"{part} is {kinds[part] or 'missing'}, expected {expected}"
        for part, expected in CLASSES.items()
        if (kinds[part] or "").removesuffix("Fast") != expected
    ]
    extra = [part for part in ("text_encoder_2", "text_encoder_3", "transformer") if (index.get(part) or [None])[0]]
    if wrong or extra:
        wrong += [f"it has a {part}" for part in extra]
        raise BackboneError(_refusal(name, wrong))


def check_configs(name: str, *, vae: Mapping[str, Any], unet: Mapping[str, Any], schedule: Mapping[str, Any]) -> None:
    """Look at the configurations of the parts.

    Raises:
        BackboneError: they are not those of SD 1.x or 2.x text-to-image models.
    """
    latents, wrong = vae.get("latent_channels"), []
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


def _refusal(name: str, wrong: list[str]) -> str:
    return (
        f"{name!r} is not a text-to-image model of Stable Diffusion 1.x's or 2.x's shape: {'; '.join(wrong)}. "
        "Take one with a UNet, one CLIP text encoder and a DDPM-like schedule, e.g. SD 1.5 or SD 2.1-base."
    )
