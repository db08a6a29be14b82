"""A folder that claims to be a diffusion model runs no code, reaches no hub and is refused in one sentence."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from fewshot.backbones.diffusion import DiffusionSpec, load_diffusion
from fewshot.errors import BackboneError
from tests.hostile.weights import Trap, edited, lying_headers
from tests.tiny_diffusion import write_tiny_diffusion

UNET_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_tiny_diffusion(tmp_path_factory.mktemp("diffusion"))


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "model")


@pytest.fixture
def trap(tmp_path):
    return Trap(tmp_path / "sprung")


def messages(folder):
    """Why it is not loaded."""
    with pytest.raises(BackboneError) as caught:
        load_diffusion(DiffusionSpec(model=str(folder)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_modules_beside_the_weights_are_never_imported(folder, trap):
    edited(folder / "model_index.json", _class_name=["pipeline", "Evil"], unet=["evil", "UNet2DConditionModel"])
    edited(folder / "unet/config.json", _class_name="Evil", auto_map={"AutoModel": "evil.Evil"})
    edited(folder / "text_encoder/config.json", auto_map={"AutoModel": "evil.Evil"}, architectures=["Evil"])
    edited(folder / "tokenizer/tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.E", "evil.E"]})
    edited(folder / "tokenizer/tokenizer_config.json", tokenizer_class="Evil", trust_remote_code=True)
    for module in ("pipeline.py", "evil.py", "unet/evil.py", "text_encoder/evil.py", "tokenizer/evil.py"):
        (folder / module).write_text(trap.module)
    assert load_diffusion(DiffusionSpec(model=str(folder))).image_size
    assert not trap.sprung


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("text_encoder", {"_attn_implementation": "evil/kernel"}),
        ("text_encoder", {"attn_implementation": "evil/kernel"}),
        ("text_encoder", {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}),
        ("text_encoder", {"trust_remote_code": True}),
        ("unet", {"quantization_config": {"quant_method": "torchao", "quant_type": "int8"}}),
    ],
)
def test_a_configuration_that_needs_code_is_refused(folder, part, change):
    edited(folder / part / "config.json", **change)
    assert f"{part} needs code besides the weights ({next(iter(change))})" in messages(folder)


@pytest.mark.parametrize(("part", "name"), [("unet", "diffusion_pytorch_model"), ("text_encoder", "model")])
@pytest.mark.parametrize("shard", ["evil.bin", "../evil.safetensors", "/evil.safetensors", 3])
def test_an_index_leads_to_safetensors_of_its_own_folder_only(folder, trap, part, name, shard):
    (folder / part / f"{name}.safetensors").unlink()
    torch.save({"x": trap}, folder / part / "evil.bin")
    index = {"metadata": {}, "weight_map": {"conv_in.weight": shard}}
    (folder / part / f"{name}.safetensors.index.json").write_text(json.dumps(index))
    assert "expected .safetensors files beside it" in messages(folder)
    assert not trap.sprung


def test_an_adapter_over_the_weights_cannot_send_the_library_elsewhere(folder, trap):
    config = {"peft_type": "LORA", "base_model_name_or_path": "evil/model", "r": 1, "target_modules": ["q_proj"]}
    (folder / "text_encoder/adapter_config.json").write_text(json.dumps(config))
    torch.save({"x": trap}, folder / "text_encoder/adapter_model.bin")
    assert "adapters over a model's weights are not read" in messages(folder)
    assert not trap.sprung


@pytest.mark.parametrize("part", [UNET_WEIGHTS, "text_projection.safetensors"])
def test_a_pickle_that_is_called_safetensors_is_damaged(folder, trap, part):
    torch.save({"x": trap}, folder / part)
    assert "safetensors" in messages(folder)
    assert not trap.sprung


@pytest.mark.parametrize("lie", lying_headers())
def test_a_header_that_lies_is_damaged(folder, lie):
    (folder / UNET_WEIGHTS).write_bytes(lying_headers()[lie])
    assert "cannot load a diffusion model" in messages(folder)


@pytest.mark.parametrize("part", [UNET_WEIGHTS, "text_encoder/model.safetensors"])
def test_a_weight_that_is_missing_is_not_drawn_at_random(folder, part):
    weights = load_file(folder / part)
    missing = sorted(weights)[-1]
    save_file({name: tensor for name, tensor in weights.items() if name != missing}, folder / part)
    assert "lacks 1 weight" in messages(folder)


@pytest.mark.parametrize(
    ("part", "change", "reason"),
    [
        ("model_index.json", {"unet": "x"}, "unet is missing"),
        ("model_index.json", {"unet": [1, 2]}, "unet is missing"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**14}, "must be in [1, 100000]"),
        ("scheduler/scheduler_config.json", {"beta_start": "x"}, "cannot read the numbers of the noise schedule"),
        ("scheduler/scheduler_config.json", {"trained_betas": "abc"}, "cannot read the numbers of the noise schedule"),
        ("scheduler/scheduler_config.json", {"trained_betas": [[0.1]]}, "must be a list of numbers in (0, 1)"),
        ("scheduler/scheduler_config.json", {"beta_end": float("nan")}, "must be a list of numbers in (0, 1)"),
        ("vae/config.json", {"block_out_channels": "many"}, "block_out_channels of vae"),
        ("vae/config.json", {"block_out_channels": [4] * 10_000}, "block_out_channels of vae"),
        ("unet/config.json", {"sample_size": "x"}, "sample_size must be an integer"),
        ("unet/config.json", {"sample_size": 10**9}, "sample_size must be an integer"),
        ("text_encoder/config.json", {"hidden_act": "os.system"}, "cannot load a diffusion model"),
        ("text_encoder/config.json", {"hidden_size": "x"}, "cannot load a diffusion model"),
    ],
)
def test_numbers_and_names_of_another_kind_are_refused(folder, part, change, reason):
    edited(folder / part, **change)
    assert reason in messages(folder)


@pytest.mark.parametrize("part", ["model_index.json", "unet/config.json", "tokenizer/tokenizer.json"])
@pytest.mark.parametrize("text", ["[1]", "{}", "[" * 100_000, "\x00"])
def test_a_file_of_another_shape_is_refused(folder, part, text):
    (folder / part).write_text(text)
    assert messages(folder)
