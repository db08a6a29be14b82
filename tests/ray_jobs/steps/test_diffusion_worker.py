"""A worker of the diffusion model keeps the classes and latents used last, and reads others while the device works."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from cluster import Store
from fewshot.backbones.diffusion import DiffusionSpec
from fewshot.diffusion.lora import concatenated_pairs, save_adapter
from fewshot.diffusion.training_memory import TrainingMemory, TrainingShape
from ray_jobs.escalation.score_unit import LatentRows, ScoreUnit, get_errors
from ray_jobs.steps import diffusion_worker
from ray_jobs.steps.adapter_files import put_adapter
from ray_jobs.steps.diffusion_worker import ClassPrompt, DiffusionStep, DiffusionWorker
from ray_jobs.steps.latents import Latents, load_means
from ray_jobs.steps.recently_used import RecentlyUsed
from tests.fewshot.diffusion.lora.stacks import random_stack
from tests.tiny_diffusion import LATENTS, WIDTH, tiny_diffusion

CLASSES = 4
PROMPTS = [ClassPrompt(f"a photo of thing {k}", f"adapters/tif/{k}") for k in range(CLASSES)]


@pytest.fixture
def worker(tmp_path):
    """A worker, with adapters and a part of latents in its store."""
    store, stack = Store(str(tmp_path)), random_stack(CLASSES)
    for k, each in enumerate(PROMPTS):
        put_adapter(store, each.adapter, save_adapter(stack, k), torch.full((1, 24, WIDTH), 0.1 * k), {})
    posterior = np.random.default_rng(0).normal(size=(3, 2, *LATENTS)).astype(np.float32)
    store.put("latents/part", Latents(("a", "b", "c"), (None,) * 3, posterior, 1000).to_bytes())
    return DiffusionWorker(store, tiny_diffusion())


def unit(classes=range(CLASSES), *, merged=False):
    image, label = (part.ravel().astype(np.int32) for part in np.meshgrid(range(3), range(len(classes))))
    return ScoreUnit(
        latents=(LatentRows("latents/part", (0, 1, 2)),),
        classes=tuple(PROMPTS[k] for k in classes),
        image=image,
        label=label,
        step=np.full(len(image), 300, np.int32),
        seed=0,
        unet_scale=0.6,
        merged=merged,
    )


def errors(worker, unit):
    worker.store.put("errors", unit.run(worker).data)
    return get_errors(worker.store, "errors")


def wait_until(holds, *, seconds=30.0):
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


def test_the_values_used_last_are_kept_up_to_a_number_of_bytes():
    asked = []

    def make(keys):
        asked.extend(keys)
        return [key * 10 for key in keys]

    here = RecentlyUsed(30, len)
    for keys in [["a"], ["b"], ["a"], ["c"], ["b"], ["d", "a"], ["c"]]:
        assert here.get(keys, make) == [key * 10 for key in keys]
        assert here.bytes <= 30
    assert asked == ["a", "b", "c", "d", "c"]
    assert (here.found, here.made) == (3, 5)
    here.clear()
    assert here.get(["a", "a"], make) == ["a" * 10] * 2
    assert (here.bytes, asked[5:]) == (10, ["a"])


def test_a_value_larger_than_all_memory_is_kept_alone():
    here = RecentlyUsed(5, len)
    for key in "ab":
        here.get([key], lambda keys: [key * 10 for key in keys])
    assert (here.bytes, here.found) == (10, 0)
    here.get(["b"], None)
    assert here.found == 1


def test_adapters_stay_in_the_precision_that_they_are_stored_in(worker):
    loaded = worker.load_classes(PROMPTS[:2])
    assert {half.dtype for each in loaded for pair in each.adapters.values() for half in pair} == {torch.float16}
    assert worker.classes.bytes == sum(each.nbytes for each in loaded)
    floats = random_stack(CLASSES).unet
    for site, pair in loaded[1].adapters.items():
        assert torch.equal(pair.B[0], floats[site].B[1].half())


def test_the_bytes_of_a_class_are_those_of_all_its_tensors(worker):
    adapted, plain = worker.load_classes([PROMPTS[0], ClassPrompt("a photo of a thing")])
    assert plain.nbytes == plain.context.nbytes > 0
    halves = [half for pair in adapted.adapters.values() for half in (pair.A, pair.B)]
    assert adapted.nbytes == adapted.context.nbytes + sum(half.nbytes for half in halves)


def test_adapters_of_a_unit_are_read_side_by_side(worker, monkeypatch):
    together, read = threading.Barrier(CLASSES), diffusion_worker.get_adapter

    def wait(*arguments):
        together.wait(timeout=30)
        return read(*arguments)

    monkeypatch.setattr(diffusion_worker, "get_adapter", wait)
    assert len(worker.load_classes(PROMPTS)) == CLASSES


def test_half_precision_in_memory_changes_no_bit_of_an_error(worker, monkeypatch):
    parts = {merged: unit(merged=merged).run(worker).data for merged in (False, True)}

    def in_floats(pairs):
        return {site: type(pair)(*(half.float() for half in pair)) for site, pair in concatenated_pairs(pairs).items()}

    monkeypatch.setattr("fewshot.diffusion.lora.concatenated_pairs", in_floats)
    assert parts == {merged: unit(merged=merged).run(worker).data for merged in (False, True)}


def test_scoring_reads_neither_text_adapters_nor_a_class_twice(worker, monkeypatch):
    read = []
    monkeypatch.setattr(Store, "get", lambda self, path, get=Store.get: (read.append(path), get(self, path))[1])
    monkeypatch.setattr("fewshot.diffusion.noise_errors.class_contexts", None)
    for classes in (range(CLASSES), [1, 3]):
        unit(classes).run(worker)
    assert len(read) == len(set(read)) == 1 + 4 * CLASSES
    assert not any("text_encoder" in path for path in read)


def test_prompts_without_adapters_share_forwards_of_the_text_encoder(worker, monkeypatch):
    rows, embed = [], type(worker.backbone).embed_ids
    monkeypatch.setattr(
        type(worker.backbone), "embed_ids", lambda self, ids: (rows.append(len(ids)), embed(self, ids))[1]
    )
    plain = [ClassPrompt(f"a photo of thing {k}") for k in range(10)]
    loaded = worker.load_classes(plain)
    assert rows == [8, 8]
    expected = worker.backbone.embed_texts([each.prompt for each in plain])
    assert torch.equal(torch.cat([each.context for each in loaded]), expected)


def test_prompts_are_encoded_by_the_unit_that_has_the_device(worker, monkeypatch):
    held, embed = [], type(worker.backbone).embed_ids
    monkeypatch.setattr(
        type(worker.backbone), "embed_ids", lambda self, ids: (held.append(worker.device.locked()), embed(self, ids))[1]
    )
    worker.load_classes([ClassPrompt("a photo of a thing")])
    assert (held, worker.device.locked()) == ([True], False)


def test_the_next_unit_is_read_while_the_device_works(worker):
    with worker.device:
        waiting = threading.Thread(target=unit().run, args=[worker])
        waiting.start()
        assert wait_until(lambda: worker.classes.made == CLASSES)
        assert waiting.is_alive()
    waiting.join()
    assert not worker.device.locked()


def test_latents_are_read_once_for_units_that_follow(worker, monkeypatch):
    (first,) = load_means(worker, ["latents/part"])
    assert first.mean.shape == (3, *LATENTS)
    assert worker.latents.bytes == first.mean.nbytes
    monkeypatch.setattr(Store, "get", None)
    assert load_means(worker, ["latents/part"]) == [first]


def test_classes_with_adapters_at_other_sites_are_scored_together(worker):
    """The sites of a class depend on its number of examples."""
    stack = random_stack(CLASSES)
    fewer = type(stack)(dict(list(stack.unet.items())[4:]), stack.text)
    put_adapter(worker.store, PROMPTS[2].adapter, save_adapter(fewer, 2), torch.full((1, 24, WIDTH), 0.2), {})
    together, alone = errors(worker, unit()), errors(worker, unit([2]))
    assert together.reshape(CLASSES, 3)[2].tolist() == alone.tolist()


@pytest.mark.parametrize(("classes_in_gpu", "kept"), [(None, CLASSES), (8.5, 2)])
def test_a_gpu_keeps_adapters_in_a_quarter_of_its_memory(worker, monkeypatch, classes_in_gpu, kept):
    (loaded,) = worker.load_classes(PROMPTS[:1])
    memory = None if classes_in_gpu is None else int(classes_in_gpu * loaded.nbytes)
    monkeypatch.setattr("fewshot.backbones.diffusion.load_diffusion", lambda spec: tiny_diffusion())
    monkeypatch.setattr(diffusion_worker, "device_memory", lambda device: memory)
    limited = []
    monkeypatch.setattr(diffusion_worker, "keep_to_share", lambda: limited.append(True))
    here = DiffusionStep(worker.store, DiffusionSpec()).setup()
    assert limited == [True]
    here.load_classes(PROMPTS)
    assert here.memory_bytes == memory
    assert here.classes.bytes == kept * loaded.nbytes


def test_the_memory_of_a_training_is_counted_once(worker, monkeypatch):
    shape = TrainingShape(block_size=1, terms=1, samples=1, rank=1, blocks="none")
    counted = []

    def count(_, shape):
        counted.append(shape)
        return TrainingMemory(1, 2, 3, 4)

    monkeypatch.setattr("fewshot.diffusion.training_memory.count_training_memory", count)
    assert worker.count_memory(shape) is worker.count_memory(shape)
    assert counted == [shape]
