"""The memory of a training is counted before it starts, and decides about checkpointing, or refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from fewshot.diffusion.adapter_training import AdapterSettings, train_adapters
from fewshot.diffusion.training_memory import (
    GIB,
    USABLE,
    TrainingMemory,
    TrainingShape,
    choose_checkpointing,
    count_training_memory,
)
from fewshot.errors import DataError
from tests.fewshot.diffusion.test_adapter_training import CLASSES, PRIOR
from tests.stable_diffusion import stable_diffusion
from tests.tiny_diffusion import tiny_diffusion

PUBLISHED = TrainingShape(block_size=8, terms=2, samples=1, rank=16, blocks="none")
SETTINGS = AdapterSettings(steps=1, rank=2, samples=8)


def gib(memory):
    return tuple(round(value / GIB, 1) for value in (memory.plain_bytes, memory.least_bytes))


def test_a_block_at_the_shape_of_stable_diffusion():
    assert gib(count_training_memory(stable_diffusion(torch.bfloat16), PUBLISHED)) == (16.3, 7.1)


@pytest.mark.slow
def test_float32_takes_about_twice_as_much():
    assert gib(count_training_memory(stable_diffusion(torch.float32), PUBLISHED)) == (31.1, 12.8)


def test_memory_grows_with_the_rows_and_the_sites_of_adapters():
    model = tiny_diffusion()
    shape = TrainingShape(block_size=4, terms=2, samples=2, rank=4, blocks="none")
    base = count_training_memory(model, shape)
    assert base.checkpointed < base.activations
    more = count_training_memory(model, replace(shape, block_size=8))
    assert more.adapters == 2 * base.adapters
    assert more.weights == base.weights
    assert more.activations == pytest.approx(2 * base.activations, rel=0.05)
    assert count_training_memory(model, replace(shape, terms=1)).activations < 0.6 * base.activations


@pytest.mark.parametrize("checkpointing", [False, True])
def test_counted_bytes_are_those_that_a_real_step_allocates(tmp_path, checkpointing):
    model, shape = tiny_diffusion(), TrainingShape.from_settings(SETTINGS, block_size=3, with_prior=True)
    counted = count_training_memory(model, shape)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        train_adapters(model, CLASSES, SETTINGS, block_size=3, seed=0, prior=PRIOR, checkpointing=checkpointing)
    recorded.export_chrome_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    totals = [event["args"]["Total Allocated"] for event in events if event.get("name") == "[memory]"]
    allocated = max(totals) - min(0, *totals)
    expected = counted.adapters + (counted.checkpointed if checkpointing else counted.activations)
    assert expected == pytest.approx(allocated, rel=0.15)


MEMORY = TrainingMemory(weights=2 * GIB, adapters=GIB, activations=16 * GIB, checkpointed=5 * GIB)


@pytest.mark.parametrize(
    ("available", "checkpointing"),
    [(None, False), (19 * GIB / USABLE, False), (20 * GIB, True), (18 * GIB, True), (8.01 * GIB / USABLE, True)],
)
def test_activations_are_kept_where_they_fit(available, checkpointing):
    assert choose_checkpointing(MEMORY, PUBLISHED, available) is checkpointing


def test_checkpointing_that_saves_nothing_is_not_counted():
    assert replace(MEMORY, activations=4 * GIB).least_bytes == (2 + 1 + 4) * GIB


@pytest.mark.parametrize(("with_prior", "prior_weight", "terms"), [(True, 1.0, 2), (True, 0.0, 1), (False, 1.0, 1)])
def test_prior_images_are_a_term_where_they_have_weight(with_prior, prior_weight, terms):
    settings = replace(SETTINGS, prior_weight=prior_weight)
    shape = TrainingShape.from_settings(settings, block_size=3, with_prior=with_prior)
    assert (shape.terms, shape.rows) == (terms, 3 * terms * SETTINGS.samples)


def test_a_block_that_does_not_fit_is_refused_with_numbers():
    with pytest.raises(DataError, match=r"8\.0 GiB .* for 8 classes .* 6\.0 GiB.* classes_per_block to 4 or"):
        choose_checkpointing(MEMORY, PUBLISHED, 6 * GIB)
    with pytest.raises(DataError, match="classes_per_block to 7 or"):
        choose_checkpointing(MEMORY, PUBLISHED, 8.5 * GIB)
    with pytest.raises(DataError, match="Not even one class fits"):
        choose_checkpointing(MEMORY, PUBLISHED, 2 * GIB)
