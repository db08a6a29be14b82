"""Networks with random weights: what a forward costs does not depend on their values."""

from __future__ import annotations

from dataclasses import dataclass

import open_clip
import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from fewshot.backbones import ClipBackbone
from fewshot.backbones.clip_loading import _preprocessing
from fewshot.backbones.diffusion import DiffusionBackbone


def random_clip(name: str, *, batch_size: int, device: torch.device, dtype: torch.dtype) -> ClipBackbone:
    """Return an open_clip architecture as a backbone."""
    model = open_clip.create_model(name, pretrained=None).eval().requires_grad_(False)
    size, crop, mean, std = _preprocessing(model)
    return ClipBackbone(
        model=model.to(device, dtype),
        tokenize=open_clip.get_tokenizer(name),
        crop=crop,
        mean=mean,
        std=std,
        image_size=size,
        batch_size=batch_size,
        templates=(),
        device=device,
        dtype=dtype,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionShape:
    """The shape of a Stable Diffusion; defaults are those of SD 2.1 (its published configurations).

    Attributes:
        latents: (C, h, w).
        widths: channels of the UNet's four levels; the last one has no attention.
        heads: number of heads at each level.
        context: (length, width) of the text encoder's output.
        text_layers: layers of the text encoder.
    """

    latents: tuple[int, int, int] = (4, 64, 64)
    widths: tuple[int, ...] = (320, 640, 1280, 1280)
    heads: tuple[int, ...] = (5, 10, 20, 20)
    context: tuple[int, int] = (77, 1024)
    text_layers: int = 23


def random_unet(shape: DiffusionShape) -> UNet2DConditionModel:
    """Return the UNet."""
    attending = len(shape.widths) - 1
    unet = UNet2DConditionModel(
        sample_size=shape.latents[1],
        in_channels=shape.latents[0],
        out_channels=shape.latents[0],
        layers_per_block=2,
        block_out_channels=shape.widths,
        down_block_types=("CrossAttnDownBlock2D",) * attending + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * attending,
        attention_head_dim=shape.heads,  # Diffusers' name for the number of heads.
        cross_attention_dim=shape.context[1],
        use_linear_projection=True,
    )
    return unet.eval().requires_grad_(False)


def random_diffusion(shape: DiffusionShape, *, device: torch.device, dtype: torch.dtype) -> DiffusionBackbone:
    """Return text encoder and UNet as a backbone; it has neither a tokenizer nor a VAE."""
    length, width = shape.context
    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=shape.text_layers,
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=length,
        hidden_act="gelu",
    )
    text_encoder: nn.Module = CLIPTextModel(config).eval().requires_grad_(False)
    return DiffusionBackbone(
        vae=None,
        text_encoder=text_encoder.to(device, dtype),
        tokenizer=None,
        unet=random_unet(shape).to(device, dtype),
        alphas_cumprod=torch.linspace(0.999, 0.005, 1000, dtype=torch.float64),
        prediction_type="v_prediction",
        image_size=8 * shape.latents[1],
        latent_shape=shape.latents,
        batch_size=16,
        device=device,
        dtype=dtype,
    )
