"""What lies in the output may have been changed by somebody: it is told as damaged, and nothing else is opened."""

from __future__ import annotations

import json

import pytest
import torch

from cluster import Store
from fewshot.backbones import ClipSpec
from fewshot.calibration.calibrate import fit_calibrated
from fewshot.diffusion.lora import ADAPTER_FILES, load_adapters, save_adapter
from fewshot.digests import digest, seal_json
from fewshot.errors import DataError
from fewshot.inference.classifier_files import load_classifier, read_card, save_classifier
from fewshot.methods import build_method
from ray_jobs.errors import DamagedError
from ray_jobs.output.classifiers import find_classifier
from ray_jobs.output.layout import from_json
from ray_jobs.output.training_cache import StoredTrainingCache
from ray_jobs.steps.adapter_files import CONTEXT, get_adapter, is_trained, put_adapter
from tests.fewshot.diffusion.lora.stacks import random_stack
from tests.hostile.weights import Trap, lying_headers
from tests.problems import make_problem

CARD, TENSORS = "card.json", "classifier.safetensors"
FOLDER = "adapters/tif/0"
CLASS_CONTEXT = torch.zeros(1, 24, 32)


@pytest.fixture(scope="module")
def files():
    unreadable = {"examples": 0, "such_as": [], "classes": []}
    facts = {"trained_from": {"method": "tip_adapter", "clip": {}}, "examples": 6, "unreadable_examples": unreadable}
    return save_classifier(fit_calibrated(build_method("tip_adapter"), make_problem([3, 3])[0], seed=0), facts)


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "output"))


@pytest.mark.parametrize(
    "change",
    [
        {"method": "evil"},
        {"method": ["tip_adapter"]},
        {"method": "../../evil"},
        {"hyperparameters": {"__class__": 1}},
        {"hyperparameters": [1]},
        {"classes": "ab"},
        {"classes": [1, 2]},
        {"temperature": "hot"},
        {"spread_power": None},
        {"least_spread": [1.0]},
        {"threshold": {"a": 1}},
        {"logit_scale": None},
        {"held_out": "none"},
        {"held_out": {"candidates": 3}},
        {"classifier": 5},
        {"classifier": {"evil": 1}},
        {"trained_from": None},
        {"trained_from": {"method": "tip_adapter", "clip": 3}},
        {"examples": "many"},
        {"unreadable_examples": []},
    ],
)
def test_a_card_with_values_of_another_kind_is_damaged_and_removed(files, store, change):
    card = json.loads(files[CARD]) | change
    for name, data in {**files, CARD: json.dumps(seal_json(card)).encode()}.items():
        store.put(f"c/{name}", data)
    with pytest.raises(DamagedError, match="run again to train it anew"):
        find_classifier(store, "c").load(ClipSpec())
    assert not store.exists(f"c/{CARD}")


@pytest.mark.parametrize("card", [b"[" * 100_000, b"\xff", b"[1]", b"null", b'{"format": 1}'])
def test_a_card_of_another_shape_is_damaged(files, card, store):
    with pytest.raises(DataError):
        read_card({**files, CARD: card})
    store.put(f"c/{CARD}", card)
    with pytest.raises(DamagedError):
        find_classifier(store, "c")
    assert not store.exists(f"c/{CARD}")


@pytest.mark.parametrize("lie", lying_headers())
def test_tensors_with_a_header_that_lies_are_damaged(files, store, lie):
    with pytest.raises(DataError, match=r"damaged|consists of"):
        load_classifier({**files, TENSORS: lying_headers()[lie]})
    with pytest.raises(DataError, match="is not a safetensors file"):
        load_adapters([save_adapter(random_stack(1), 0) | {ADAPTER_FILES[1]: lying_headers()[lie]}])
    training_cache = StoredTrainingCache(store, "trainings/x")
    store.put("trainings/x/key.safetensors", lying_headers()[lie])
    assert training_cache("key", lambda: {"a": torch.ones(1)})["a"].tolist() == [1.0]


def test_pickles_in_the_output_are_not_loaded(files, store, tmp_path):
    trap = Trap(tmp_path / "sprung")
    torch.save({"x": trap}, tmp_path / "evil")
    pickled = (tmp_path / "evil").read_bytes()
    with pytest.raises(DataError):
        load_classifier({**files, TENSORS: pickled})
    with pytest.raises(DataError):
        load_adapters([save_adapter(random_stack(1), 0) | {ADAPTER_FILES[1]: pickled}])
    store.put("trainings/x/key.safetensors", pickled)
    StoredTrainingCache(store, "trainings/x")("key", dict)
    assert not trap.sprung


@pytest.mark.parametrize(
    "listed", [["../../secret"], ["/etc/passwd"], [3], "x", None, {"a": 1}, ["unet/../../x"] * 10_000]
)
def test_what_a_card_lists_is_never_opened(store, monkeypatch, listed):
    put_adapter(store, FOLDER, save_adapter(random_stack(1), 0), CLASS_CONTEXT, {})
    store.put(f"{FOLDER}/{CARD}", json.dumps(seal_json({"files": listed})).encode())
    opened: list[str] = []
    monkeypatch.setattr(Store, "get", lambda self, path, get=Store.get: (opened.append(path), get(self, path))[1])
    with pytest.raises(DamagedError, match="run again to train them anew"):
        get_adapter(store, FOLDER, torch.device("cpu"))
    assert set(opened) <= {f"{FOLDER}/{name}" for name in (CARD, CONTEXT, *ADAPTER_FILES)}
    assert not is_trained(store, FOLDER)


def test_of_what_a_card_lists_only_adapters_are_opened(store):
    files = save_adapter(random_stack(1), 0)
    put_adapter(store, FOLDER, files, CLASS_CONTEXT, {})
    listed = from_json(store.get(f"{FOLDER}/{CARD}"))["files"] | {"../../secret": digest(b"")}
    store.put(f"{FOLDER}/{CARD}", json.dumps(seal_json({"files": listed})).encode())
    adapters, _ = get_adapter(store, FOLDER, torch.device("cpu"))
    assert {len(pair.A) for pair in adapters.values()} == {1}


@pytest.mark.parametrize("context", [torch.zeros(24, 32), torch.full((1, 24, 32), torch.nan), torch.zeros(2, 24, 32)])
def test_a_context_of_another_shape_or_without_numbers_is_damage(store, context):
    put_adapter(store, FOLDER, save_adapter(random_stack(1), 0), context, {})
    with pytest.raises(DamagedError, match="has no context"):
        get_adapter(store, FOLDER, torch.device("cpu"))
    assert not is_trained(store, FOLDER)


@pytest.mark.parametrize("name", [ADAPTER_FILES[0], CONTEXT])
def test_an_adapter_without_a_file_is_damaged_and_trained_anew(store, name):
    put_adapter(store, FOLDER, save_adapter(random_stack(1), 0), CLASS_CONTEXT, {})
    store.delete(f"{FOLDER}/{name}")
    with pytest.raises(DamagedError, match="train them anew"):
        get_adapter(store, FOLDER, torch.device("cpu"))
    assert not is_trained(store, FOLDER)


@pytest.mark.parametrize("config", [b"[" * 100_000, b'{"r": 1e400, "lora_alpha": 1}', b'{"r": [1]}', b'"r"', b"\xff"])
def test_a_configuration_of_an_adapter_of_another_shape_is_refused(config):
    with pytest.raises(DataError, match="is not a configuration of a LoRA"):
        load_adapters([save_adapter(random_stack(1), 0) | {ADAPTER_FILES[0]: config}])


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "", ".", "a//b", "a/./b"])
def test_the_store_opens_nothing_outside_its_root(store, path):
    for action in (store.get, store.delete, store.exists, lambda path: store.put(path, b"")):
        with pytest.raises(ValueError, match="plain relative path"):
            action(path)
