"""Trainings in storage: made once, found by every later process, made anew when damaged."""

from dataclasses import replace

import pytest
import torch

from cluster import Store
from fewshot.backbones import ClipSpec
from ray_jobs.output.training_cache import StoredTrainingCache, trainings_folder


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path))


def ask(store, value=1.0):
    """What a process of its own gets, and whether it had to train."""
    training_cache = StoredTrainingCache(store, "trainings")
    state = training_cache("key", lambda: {"a": torch.full((2, 3), value), "b": torch.arange(4)})
    return state, training_cache.made


def test_another_process_finds_the_training(store):
    first, made = ask(store)
    assert made == ["key"]
    second, made = ask(store, value=2.0)
    assert made == []
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_process_reads_a_training_once(store, tmp_path):
    training_cache = StoredTrainingCache(store, "trainings")
    training_cache("key", lambda: {"a": torch.ones(1)})
    (tmp_path / "trainings/key.safetensors").unlink()
    assert training_cache("key", lambda: pytest.fail("trained again"))["a"] == 1
    assert training_cache.requested == {"key"}


def test_a_damaged_training_is_made_anew(store, tmp_path):
    ask(store)
    (tmp_path / "trainings/key.safetensors").write_bytes(b"not at all")
    state, made = ask(store, value=3.0)
    assert made == ["key"]
    assert state["a"][0, 0] == 3.0
    assert ask(store)[1] == []


def test_a_training_with_a_flipped_bit_is_made_anew(store, tmp_path, caplog):
    ask(store)
    path = tmp_path / "trainings/key.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # A number of a tensor.
    path.write_bytes(data)
    assert ask(store, value=3.0)[1] == ["key"]
    assert f"training was damaged and is made anew path={path}" in caplog.text


def test_backbones_and_prompts_keep_their_trainings_apart(tiny_clip):
    tiny = ClipSpec(model=str(tiny_clip), precision="fp32")
    other = replace(tiny, batch_size=7)
    folders = [trainings_folder(tiny, None), trainings_folder(other, None), trainings_folder(tiny, ("a {}",))]
    assert len(set(folders)) == 3
