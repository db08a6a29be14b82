"""A shard that was decoded elsewhere is embedded to the same bytes."""

import pickle

import numpy as np
import pytest

from cluster import SplitStep
from cluster.records import open_source
from fewshot.backbones import ClipSpec
from ray_jobs.output.feature_parts import decode
from ray_jobs.steps.embed import EmbedStep, EmbedUnit, Pixels


def travelled(prepared: Pixels) -> Pixels:
    """As it arrives on another machine."""
    arrived: Pixels = pickle.loads(pickle.dumps(prepared))
    arrived.pixels.setflags(write=False)
    return arrived


@pytest.mark.parametrize("views", [0, 2])
def test_a_shard_decoded_elsewhere_gives_the_same_bytes(place, tiny_clip, views):
    step = EmbedStep(ClipSpec(model=str(tiny_clip), batch_size=3))
    assert isinstance(step, SplitStep)
    (shard,) = open_source(str(place.archive)).shards()
    state, unit = step.setup(), EmbedUnit(shard, views=views)
    tools = pickle.loads(pickle.dumps(step.tools(state)))
    whole, split = step.run(state, unit), step.run_prepared(state, unit, travelled(step.prepare(tools, unit)))
    assert split == whole
    errors = [error is not None for error in decode(whole.data).errors]
    assert (len(errors), sum(errors)) == (20, 2)


def test_an_unreadable_shard_can_be_sent(tiny_clip, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    step = EmbedStep(ClipSpec(model=str(tiny_clip)))
    (shard,) = open_source(str(tmp_path)).shards()
    state, unit = step.setup(), EmbedUnit(shard)
    prepared = step.prepare(step.tools(state), unit)
    assert prepared.pixels.dtype == np.uint8
    assert step.run_prepared(state, unit, travelled(prepared)) == step.run(state, unit)
