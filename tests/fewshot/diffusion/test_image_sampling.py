"""Prior images equal those of diffusers' own pipeline, and no image depends on its batch-mates."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from fewshot.diffusion.image_sampling import PriorImages, sample_images
from fewshot.diffusion.random_draws import seeded_generator
from fewshot.errors import DataError
from tests.tiny_diffusion import tiny_diffusion

IMAGES = PriorImages(prompt="a photo of a thing", count=5, steps=3, guidance=2.0)


def test_images_equal_those_of_the_diffusers_pipeline():
    backbone = tiny_diffusion()
    scheduler = DDIMScheduler(
        num_train_timesteps=len(backbone.alphas_cumprod),
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    torch.testing.assert_close(scheduler.alphas_cumprod, backbone.alphas_cumprod.float(), atol=1e-6, rtol=1e-5)
    pipeline = StableDiffusionPipeline(
        vae=backbone.vae,
        text_encoder=backbone.text_encoder,
        tokenizer=backbone.tokenizer,
        unet=backbone.unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    generators = [seeded_generator(7, "prior", IMAGES.prompt, number) for number in range(2)]
    noise = torch.stack([torch.randn(*backbone.latent_shape, generator=generator) for generator in generators])
    (expected,) = pipeline(
        [IMAGES.prompt] * 2,
        num_inference_steps=IMAGES.steps,
        guidance_scale=IMAGES.guidance,
        latents=noise,
        output_type="latent",
        return_dict=False,
        height=backbone.image_size,
        width=backbone.image_size,
    )[:1]
    torch.testing.assert_close(sample_images(backbone, IMAGES, [0, 1], seed=7), expected, atol=1e-4, rtol=1e-4)


def test_bits_of_an_image_do_not_depend_on_its_batch():
    backbone = tiny_diffusion()
    together = sample_images(backbone, IMAGES, range(5), seed=0)
    assert torch.equal(sample_images(backbone, IMAGES, [3, 1], seed=0), together[[3, 1]])
    assert len({image.numpy().tobytes() for image in together}) == 5


def test_seed_prompt_and_guidance_change_the_image():
    backbone = tiny_diffusion()
    (plain,) = sample_images(backbone, IMAGES, [0], seed=0)
    for other, seed in ((IMAGES, 1), (replace(IMAGES, prompt="a cat"), 0), (replace(IMAGES, guidance=1.0), 0)):
        assert not torch.equal(plain, sample_images(backbone, other, [0], seed=seed)[0])


def test_a_sampler_with_all_steps_of_the_model_is_refused():
    backbone = tiny_diffusion()
    with pytest.raises(DataError, match="fewer steps than the model's 1000, got 1000"):
        sample_images(backbone, replace(IMAGES, steps=1000), [0], seed=0)
