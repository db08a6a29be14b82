"""`fewshot adapters`: a file for diffusers for each class of an output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from cluster import Store
from fewshot.diffusion.lora import load_adapters, pipeline_file, save_adapter
from ray_jobs.steps.adapter_files import put_adapter
from tests.fewshot.diffusion.lora.stacks import random_stack
from tests.ray_jobs.place import fewshot

LABELS = ("red panda", "Boeing 737-800/ü. ", "…")
SETTINGS = {"unet_scale": 0.6, "text_scale": 0.7}


@pytest.fixture(scope="module")
def stack():
    return random_stack(len(LABELS))


@pytest.fixture
def output(tmp_path, stack):
    store = Store(str(tmp_path / "output"))
    for k, label in enumerate(LABELS):
        card = {"class": label, "prompt": f"a photo of a hta {label}", "settings": SETTINGS}
        for folder, more in ((f"{k:016x}", {}), (f"{k + 9:016x}", {"held_out": 1})):
            put_adapter(store, f"adapters/tif/{folder}", save_adapter(stack, k), torch.zeros(1, 4, 32), card | more)
    return tmp_path / "output"


def test_each_class_is_written_as_its_pipeline_file(tmp_path, output, stack):
    outcome = fewshot("adapters", output, tmp_path / "drawing")
    assert outcome.code == 0, outcome.messages
    assert [each["label"] for each in outcome.result["adapters"]] == list(LABELS)
    assert len(list((tmp_path / "drawing").iterdir())) == len(LABELS)
    for k, each in enumerate(outcome.result["adapters"]):
        about = {"label": LABELS[k], "prompt": f"a photo of a hta {LABELS[k]}"}
        stored = load_adapters([save_adapter(stack, k)])
        assert Path(each["file"]).read_bytes() == pipeline_file(stored, 0, **SETTINGS, about=about)
        assert each["prompt"] == about["prompt"]
        with safetensors.safe_open(each["file"], framework="numpy") as file:
            assert json.loads(file.metadata()["about"]) == about


def test_an_output_without_adapters_is_refused(tmp_path):
    Store(str(tmp_path)).put("features/x", b"")
    outcome = fewshot("adapters", tmp_path, tmp_path / "drawing")
    assert outcome.code == 2
    assert "has no adapters" in outcome.messages
    assert not (tmp_path / "drawing").exists()


@pytest.mark.parametrize(
    ("place", "reason"),
    [("file", "file cannot be made: File exists"), ("file/x", "Not a directory"), ("s3://b/x", "s3://b/x is a URL")],
)
def test_a_place_that_is_no_local_folder_is_refused(tmp_path, output, monkeypatch, place, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("here")
    outcome = fewshot("adapters", output, place)
    assert outcome.code == 2
    assert reason in outcome.messages
    assert {path.name for path in tmp_path.iterdir()} == {"file", "output"}


@pytest.mark.parametrize("name", ["unet/adapter_model.safetensors", "text_encoder/adapter_config.json", "card.json"])
def test_damaged_adapters_are_refused(tmp_path, output, name):
    path = output / "adapters/tif" / f"{0:016x}" / name
    path.write_bytes(path.read_bytes()[:-3])
    outcome = fewshot("adapters", output, tmp_path / "drawing")
    assert outcome.code == 2
    assert "are damaged" in outcome.messages
