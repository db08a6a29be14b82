"""Networks with random weights: what a forward costs does not depend on their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import open_clip
import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from fewshot.backbones import ClipBackbone
from fewshot.backbones.diffusion import DiffusionBackbone
from fewshot.backbones.image_crop import Preprocessing
from tests.stable_diffusion import TEXT, UNET


def random_clip(name: str, *, batch_size: int, device: torch.device, dtype: torch.dtype) -> ClipBackbone:
    """Return an open_clip architecture as a backbone."""
    model = open_clip.create_model(name, pretrained=None).eval().requires_grad_(False)
    preprocessing = Preprocessing.from_open_clip(model.visual.preprocess_cfg)
    return ClipBackbone(
        model=model.to(device, dtype),
        tokenize=open_clip.get_tokenizer(name),
        crop=preprocessing.crop,
        mean=preprocessing.mean,
        std=preprocessing.std,
        input_size=preprocessing.input_size,
        batch_size=batch_size,
        templates=(),
        device=device,
        dtype=dtype,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionShape:
    """The shape of a Stable Diffusion; the default is that of SD 2.1.

    Attributes:
        unet: arguments of diffusers' `UNet2DConditionModel`.
        text: arguments of transformers' `CLIPTextConfig`.
    """

    unet: Mapping[str, Any] = field(default_factory=lambda: UNET)
    text: Mapping[str, Any] = field(default_factory=lambda: TEXT)

    @property
    def latents(self) -> tuple[int, int, int]:
        """(C, h, w)."""
        return self.unet["in_channels"], self.unet["sample_size"], self.unet["sample_size"]

    @property
    def context(self) -> tuple[int, int]:
        """Length and width of the text encoder's output."""
        return self.text["max_position_embeddings"], self.text["hidden_size"]


def random_diffusion(shape: DiffusionShape, *, device: torch.device, dtype: torch.dtype) -> DiffusionBackbone:
    """Return text encoder and UNet as a backbone; it has neither a tokenizer nor a VAE."""
    networks: list[nn.Module] = [CLIPTextModel(CLIPTextConfig(**shape.text)), UNet2DConditionModel(**shape.unet)]
    text_encoder, unet = (nn.Module.to(network.eval().requires_grad_(False), device, dtype) for network in networks)
    return DiffusionBackbone(
        vae=None,
        text_encoder=text_encoder,
        tokenizer=None,
        unet=unet,
        alphas_cumprod=torch.linspace(0.999, 0.005, 1000, dtype=torch.float64),
        prediction_type="v_prediction",
        image_size=8 * shape.latents[1],
        latent_shape=shape.latents,
        batch_size=16,
        device=device,
        dtype=dtype,
    )
