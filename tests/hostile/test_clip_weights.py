"""A folder that claims to be a CLIP runs no code, asks for nothing and is refused in one sentence."""

from __future__ import annotations

import json
import os
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from fewshot.backbones import ClipSpec, load_clip
from fewshot.errors import BackboneError
from tests.hostile.weights import Trap, lying_headers
from tests.tiny_clip import write_tiny_clip

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "clip")


@pytest.fixture
def trap(tmp_path):
    return Trap(tmp_path / "sprung")


def messages(folder, **spec):
    """Why it is not loaded."""
    with pytest.raises(BackboneError) as caught:
        load_clip(ClipSpec(**({"model": str(folder)} | spec)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_tower(folder, tower, **changes):
    config = json.loads((folder / CONFIG).read_text())
    config["model_cfg"][tower] |= changes
    (folder / CONFIG).write_text(json.dumps(config))


def test_a_tokenizer_that_brings_a_module_does_not_run_it(folder, trap):
    with_tower(folder, "text_cfg", hf_tokenizer_name="any", tokenizer_kwargs={"trust_remote_code": True})
    classes = {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Evil", "auto_map": classes}))
    (folder / "evil.py").write_text(trap.module)
    assert "sets tokenizer options trust_remote_code" in messages(folder)
    assert not trap.sprung


def test_a_text_tower_that_brings_a_module_does_not_run_it_and_nobody_is_asked(folder, trap, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: "yes")
    with_tower(folder, "text_cfg", hf_model_name=str(folder / "text"), hf_tokenizer_name="any")
    (folder / "text").mkdir()
    classes = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}
    (folder / "text" / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": classes}))
    (folder / "text" / "evil.py").write_text(trap.module)
    assert "cannot load a CLIP" in messages(folder)
    assert not trap.sprung


@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "model.pth", "other.bin"])
def test_pickled_weights_of_a_folder_are_not_even_opened(folder, trap, name):
    (folder / WEIGHTS).unlink()
    torch.save({"state_dict": trap}, folder / name)
    assert "weights are read from safetensors only" in messages(folder)
    assert not trap.sprung


@pytest.mark.parametrize("name", ["weights.pt", "weights.npz", "weights.bin", "weights"])
def test_a_checkpoint_that_is_no_safetensors_is_not_even_opened(tmp_path, trap, name):
    (tmp_path / name).write_bytes(pickle.dumps(trap))
    assert "weights are read from safetensors only" in messages(None, model="RN50", pretrained=str(tmp_path / name))
    assert not trap.sprung


def test_a_pickle_that_is_called_safetensors_is_damaged(folder, trap):
    torch.save({"state_dict": trap}, folder / WEIGHTS)
    assert "cannot load a CLIP" in messages(folder)
    assert not trap.sprung


@pytest.mark.parametrize("lie", lying_headers())
def test_a_header_that_lies_is_damaged(folder, lie):
    (folder / WEIGHTS).write_bytes(lying_headers()[lie])
    assert "cannot load a CLIP" in messages(folder)


def test_the_older_name_of_the_weights_is_read(folder):
    save_file(load_file(folder / WEIGHTS), folder / "open_clip_pytorch_model.safetensors")
    (folder / WEIGHTS).unlink()
    assert load_clip(ClipSpec(model=str(folder))).input_size == (32, 32)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1]", "must hold a JSON object, got list"),
        ("[" * 100_000, "is not JSON"),
        ("{", "is not JSON"),
        (" " * 2_000_000, "is larger than"),
        ('{"model_cfg": 3}', "expected model_cfg with vision_cfg and text_cfg"),
        ('{"model_cfg": {"vision_cfg": [], "text_cfg": {}}}', "expected model_cfg with vision_cfg and text_cfg"),
        ('{"model_cfg": {"vision_cfg": {}, "text_cfg": {}}, "trust_remote_code": true}', "needs code"),
        ('{"model_cfg": {"vision_cfg": {}, "text_cfg": {"layers": "many"}, "embed_dim": -1}}', "cannot load a CLIP"),
    ],
)
def test_a_configuration_of_another_kind_is_refused(folder, text, reason):
    (folder / CONFIG).write_text(text)
    assert reason in messages(folder)


def test_a_tower_larger_than_memory_is_refused(folder):
    with_tower(folder, "vision_cfg", width=10**9)
    assert "cannot load a CLIP" in messages(folder)


def test_a_pipe_among_the_weights_is_not_waited_for(folder):
    os.mkfifo(folder / "pipe.bin")
    assert load_clip(ClipSpec(model=str(folder))).input_size == (32, 32)
    assert ClipSpec(model=str(folder), precision="fp32").identity()
