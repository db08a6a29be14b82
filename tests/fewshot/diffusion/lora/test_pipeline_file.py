"""A pipeline of diffusers that loads a class's file computes what scoring computes with its adapters."""

from __future__ import annotations

import json

import pytest
import safetensors
import torch
from diffusers import StableDiffusionPipeline

from fewshot.backbones.diffusion.diffusion_spec import EMBEDDED_FOLDER
from fewshot.diffusion.lora import (
    LoraPair,
    StackedLora,
    initial_pairs,
    load_adapters,
    merged,
    pipeline_file,
    save_adapter,
    sites,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # Diffusers, PEFT and transformers warn about each other.
SCALES = {"unet_scale": 0.6, "text_scale": 0.7}
ABOUT = {"class": "red panda", "prompt": "a photo of a hta red panda"}


def embedded_pipeline():
    pipeline = StableDiffusionPipeline.from_pretrained(EMBEDDED_FOLDER, safety_checker=None, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def strong_pairs(model, seed):
    generator = torch.Generator().manual_seed(seed)
    start = initial_pairs(sites(model), ["a", "b"], rank=3, seed=seed)
    pairs = {site: LoraPair(p.A, 0.3 * torch.randn(p.B.shape, generator=generator)) for site, p in start.items()}
    return {site: LoraPair(*(half.half().float() for half in pair)) for site, pair in pairs.items()}


@pytest.fixture(scope="module")
def stack():
    pipeline = embedded_pipeline()
    return StackedLora(strong_pairs(pipeline.unet, 0), strong_pairs(pipeline.text_encoder, 1))


def outputs(pipeline):
    """The context of a prompt, and the noise that the UNet predicts with it."""
    length = pipeline.tokenizer.model_max_length
    ids = pipeline.tokenizer(["a cat"], padding="max_length", max_length=length, return_tensors="pt").input_ids
    config = pipeline.unet.config
    noisy = torch.randn(1, config.in_channels, *[config.sample_size] * 2, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        context = pipeline.text_encoder(ids).last_hidden_state
        return context, pipeline.unet(noisy, 500, context).sample


def drawn(pipeline):
    generator = torch.Generator().manual_seed(0)
    images = pipeline("a cat", num_inference_steps=2, output_type="np", generator=generator, guidance_scale=3.0).images
    return torch.from_numpy(images)


def test_a_pipeline_computes_with_the_scales_of_inference(tmp_path, stack):
    path = tmp_path / "red-panda.safetensors"
    path.write_bytes(pipeline_file(stack, 1, **SCALES, about=ABOUT))
    plain, adapted = embedded_pipeline(), embedded_pipeline()
    adapted.load_lora_weights(path)
    with merged(plain.unet, stack.unet, 1, scale=0.6), merged(plain.text_encoder, stack.text, 1, scale=0.7):
        expected = outputs(plain)
    for found, wanted, without in zip(outputs(adapted), expected, outputs(plain), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-2, atol=1e-2)
        assert (found - without).abs().max() > 0.3  # Far more than half precision rounds.
    assert (drawn(adapted) - drawn(plain)).abs().mean() > 0.01
    adapted.unload_lora_weights()
    assert torch.equal(drawn(adapted), drawn(plain))


def test_files_of_peft_change_nothing_in_a_pipeline(tmp_path, stack):
    """The reason for this file. If diffusers loads those as well one day, it can go."""
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(save_adapter(stack, 1)["unet/adapter_model.safetensors"])
    pipeline = embedded_pipeline()
    before = drawn(pipeline)
    pipeline.load_lora_weights(path)
    assert torch.equal(drawn(pipeline), before)


def test_stored_adapters_give_the_file_of_the_trained_ones(stack):
    loaded = load_adapters([save_adapter(stack, 1)])
    assert pipeline_file(loaded, 0, **SCALES, about=ABOUT) == pipeline_file(stack, 1, **SCALES, about=ABOUT)


def test_the_file_says_which_class_it_is_of(tmp_path, stack):
    path = tmp_path / "x.safetensors"
    path.write_bytes(pipeline_file(stack, 0, **SCALES, about=ABOUT))
    with safetensors.safe_open(path, framework="numpy") as file:
        assert json.loads(file.metadata()["about"]) == ABOUT
