"""Text encoder, UNet and noise schedule: Stable Diffusion's shape at a small size."""

from __future__ import annotations

from typing import Any

from diffusers import DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from tools.embedded_diffusion.caption_tokenizer import MAX_LENGTH
from tools.embedded_diffusion.vae import LATENT_CHANNELS

WIDTH = 128


def text_encoder(tokenizer: Any) -> CLIPTextModel:
    """Return an untrained text encoder of three layers, which pools at the end token."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=3 * WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=MAX_LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def unet() -> UNet2DConditionModel:
    """Return an untrained UNet of two levels, 8 × 8 and 4 × 4, with cross-attention at both."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        layers_per_block=1,
        block_out_channels=(64, 128),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=(2, 4),  # Diffusers' name for the number of heads.
        norm_num_groups=16,
        cross_attention_dim=WIDTH,
    )


def schedule() -> DDPMScheduler:
    """Return Stable Diffusion's noise schedule."""
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        clip_sample=False,
        steps_offset=1,
    )
