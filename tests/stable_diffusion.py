"""A diffusion model of Stable Diffusion 2.1's full shape without data: what is counted needs no weights."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

LATENTS = (4, 64, 64)
LENGTH, WIDTH = 77, 1024
UNET = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": WIDTH,
    "use_linear_projection": True,
}
TEXT = {
    "hidden_size": WIDTH,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "max_position_embeddings": LENGTH,
    "vocab_size": 49408,
    "hidden_act": "gelu",
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": LATENTS[0],
    "sample_size": 768,
}


@functools.cache
def stable_diffusion(dtype: Any) -> Any:
    """The networks on the meta device, and what a backbone has beside them."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        networks = {
            "vae": AutoencoderKL(**VAE),
            "text_encoder": torch.nn.Module.to(CLIPTextModel(CLIPTextConfig(**TEXT)), dtype),
            "unet": torch.nn.Module.to(UNet2DConditionModel(**UNET), dtype),
        }
    for network in networks.values():
        network.eval().requires_grad_(False)
    return SimpleNamespace(
        **networks,
        dtype=dtype,
        latent_shape=LATENTS,
        batch_size=32,
        device=torch.device("meta"),
        tokenizer=SimpleNamespace(model_max_length=LENGTH),
    )
