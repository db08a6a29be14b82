"""A diffusion model of Stable Diffusion's own shape with random weights, small enough to score in milliseconds."""

from __future__ import annotations

import functools
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewshot.backbones.diffusion import DiffusionBackbone
    from fewshot.problem import Labelled, Problem

IMAGE_SIZE = 32
LATENTS = (4, 8, 8)
WIDTH = 32
DIM = 16
"""Of the joint space."""
WORDS = """a an the photo of picture image thing animal cat dog fox owl on red green blue this is one good bad large
small nice weird cool clean dirty dark bright close up cropped low resolution rendition jpeg corrupted my {} hta"""


def write_tiny_diffusion(folder: Path, *, projected: bool = True, **schedule: Any) -> Path:
    """Write it as the folder that a pipeline's `save_pretrained` would, with a projection beside it.

    Args:
        folder: where to.
        projected: whether the folder has a `text_projection.safetensors`.
        schedule: settings of the scheduler other than SD's, e.g. prediction_type="v_prediction".
    """
    import torch
    from diffusers import StableDiffusionPipeline
    from safetensors.torch import save_file

    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = _parts(schedule)
        _sharpen(parts)
        projection = torch.randn(DIM, WIDTH) / WIDTH**0.5
    pipeline = StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    pipeline.save_pretrained(folder)
    if projected:
        save_file({"text_projection.weight": projection}, folder / "text_projection.safetensors")
    return folder


@functools.cache
def tiny_diffusion(
    *, batch_size: int = 8, precision: Any = "fp32", prediction_type: str = "epsilon"
) -> DiffusionBackbone:
    """The loaded model; the same object for the same settings, so leave it as it is."""
    from fewshot.backbones.diffusion import DiffusionSpec, load_diffusion

    with tempfile.TemporaryDirectory() as folder:
        write_tiny_diffusion(Path(folder), prediction_type=prediction_type)
        return load_diffusion(DiffusionSpec(model=folder, batch_size=batch_size, precision=precision))


def _parts(schedule: dict[str, Any]) -> dict[str, Any]:
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from tools.embedded_diffusion.caption_tokenizer import MAX_LENGTH, train_tokenizer

    tokenizer = train_tokenizer([*WORDS.split(), WORDS])
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=MAX_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(4, 8, 8),
        layers_per_block=1,
        latent_channels=LATENTS[0],
        norm_num_groups=2,
        sample_size=IMAGE_SIZE,
    )
    unet = UNet2DConditionModel(
        sample_size=LATENTS[1],
        in_channels=LATENTS[0],
        out_channels=LATENTS[0],
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2,  # Diffusers' name for the number of heads.
        norm_num_groups=4,
        cross_attention_dim=WIDTH,
    )
    settings = {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "steps_offset": 1,
    }
    scheduler = DDPMScheduler(**settings | schedule)
    return {
        "vae": vae,
        "text_encoder": CLIPTextModel(text),
        "tokenizer": tokenizer,
        "unet": unet,
        "scheduler": scheduler,
    }


def _sharpen(parts: dict[str, Any]) -> None:
    """Larger weights than initialised: words should matter to the text encoder, and texts to the UNet."""
    import torch

    with torch.no_grad():
        for name, parameter in parts["text_encoder"].named_parameters():
            if "embedding" in name:
                parameter.normal_(std=1.0 if "token" in name else 0.3)
        for name, parameter in parts["unet"].named_parameters():
            if "attn2" in name or "conv_out" in name:
                parameter.mul_(3.0)


def with_diffusion(problem: Problem) -> Problem:
    """The same problem with the model, its texts in the features' space, and latents that follow from each image."""
    import torch

    backbone = tiny_diffusion(batch_size=16)
    generator = torch.Generator().manual_seed(3)
    D = problem.class_embeddings.shape[1]
    projection = torch.randn(D, WIDTH, generator=generator) / WIDTH**0.5
    backbone = replace(backbone, projection=projection, templates=("a photo of a {}", "the {}"))
    to_latents = torch.randn(D, math.prod(LATENTS), generator=generator) / D**0.5

    def seen(images: Labelled) -> Labelled:
        mean = (images.features @ to_latents).view(-1, *LATENTS)
        return replace(images, latents=torch.stack([mean, torch.full_like(mean, 0.1)], dim=1))

    val = None if problem.val is None else seen(problem.val)
    return replace(problem, diffusion=backbone, support=seen(problem.support), val=val)
