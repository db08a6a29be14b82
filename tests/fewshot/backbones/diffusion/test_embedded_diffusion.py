"""The diffusion model of the package is small, loads without a download, and has learned something."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from fewshot.backbones import ClipSpec, load_clip
from fewshot.backbones.diffusion import DiffusionSpec, load_diffusion
from fewshot.backbones.diffusion.diffusion_spec import EMBEDDED_FOLDER
from fewshot.demo.scenes import draw_scenes, load_glyphs, render
from fewshot.diffusion.noise_errors import Queries, class_contexts, noise_errors

MAX_BYTES = 12 * 2**20


@pytest.fixture(scope="module")
def backbone():
    return load_diffusion(DiffusionSpec())


def pictures(glyph, seed=0):
    return render(draw_scenes(torch.tensor(glyph), generator=torch.Generator().manual_seed(seed)), load_glyphs())


def test_the_embedded_model_is_small():
    assert sum(file.stat().st_size for file in EMBEDDED_FOLDER.rglob("*")) <= MAX_BYTES


def test_the_autoencoder_restores_pictures_kept_from_training(backbone):
    originals = pictures(load_glyphs().held_out)
    latents = backbone.encode_images((originals * 255).round().to(torch.uint8))
    decoded = backbone.vae.decode(latents / backbone.vae.config.scaling_factor).sample / 2 + 0.5
    error = (decoded.clamp(0, 1) - originals).square().mean().item()
    assert 10 * math.log10(1 / error) > 27  # decibels


def test_noise_errors_are_low_and_fall_with_the_noise_level(backbone):
    latents = backbone.encode_images((pictures(load_glyphs().shown[:8]) * 255).round().to(torch.uint8))
    text = class_contexts(backbone, ["a picture"])
    steps = torch.tensor([50, 500, 950])
    image, step = (i.flatten() for i in torch.meshgrid(torch.arange(8), steps, indexing="ij"))
    queries = Queries(image, torch.zeros_like(image), step)
    errors = noise_errors(backbone, latents, [str(i) for i in range(8)], text, queries, seed=0).view(8, 3).mean(dim=0)
    assert errors[0] > errors[1] > errors[2]
    assert errors[0] < 0.6
    assert errors[2] < 0.02


@pytest.mark.embedded
def test_texts_lie_in_the_image_space_of_the_embedded_clip(backbone):
    from torchvision.transforms.functional import to_pil_image

    glyphs, clip = load_glyphs(), load_clip(ClipSpec())
    shown = glyphs.shown[::12]
    drawn = render(draw_scenes(torch.tensor(shown), generator=torch.Generator().manual_seed(1)), glyphs, side=128)
    images = normalize(clip.embed_images(torch.stack([clip.crop(to_pil_image(picture)) for picture in drawn])), dim=1)
    ids = backbone.token_ids([f"a picture of a {glyphs.names[i]}" for i in shown])
    pooled = backbone.text_encoder(ids).pooler_output
    texts = normalize(pooled @ backbone.projection.T, dim=1)
    found = (images @ texts.T).argmax(dim=1)
    right = (found == torch.arange(len(shown))).double().mean()
    assert right > 0.5  # Of twenty names; chance is 0.05.
