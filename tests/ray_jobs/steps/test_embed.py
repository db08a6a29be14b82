"""The bytes of a shard do not depend on where it is decoded, or on the shards that are embedded beside it."""

import pickle
import threading
from dataclasses import replace

import numpy as np
import pytest

from cluster import Ledger, LocalExecutor, SplitStep, StorageError, Store, WorkerBrokenError, Workers, run_stage
from cluster.records import open_source
from fewshot.backbones import ClipBackbone, ClipSpec
from fewshot.backbones.batch_device import HostDevice
from ray_jobs.inputs.archive import archive_units
from ray_jobs.output.feature_parts import decode
from ray_jobs.results.stage_load import StageLoad
from ray_jobs.steps import embed
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


@pytest.fixture
def forwards(monkeypatch):
    """The number of images of each forward."""
    counts, embed = [], ClipBackbone.embed_images

    def counted(clip, images):
        counts.append(len(images))
        return embed(clip, images)

    monkeypatch.setattr(ClipBackbone, "embed_images", counted)
    return counts


def embedded(step, archive, output, overlap):
    """Embed an archive in shards of a few images; return all parts."""
    store, source = Store(str(output)), open_source(str(archive), shard_records=5)
    report = run_stage(
        LocalExecutor(), step, archive_units(source, "features"), Ledger(store), Workers(overlap=overlap)
    )
    assert report.done > 3
    return {path: store.get(path) for path in store.list("features")}


def test_shards_that_share_batches_have_the_bytes_of_shards_alone(place, tiny_clip, tmp_path, forwards):
    step = EmbedStep(ClipSpec(model=str(tiny_clip), batch_size=4))
    alone = embedded(step, place.archive, tmp_path / "alone", overlap=1)
    assert forwards.count(4) < 18 // 4
    forwards.clear()
    assert embedded(step, place.archive, tmp_path / "together", overlap=8) == alone
    assert sorted(forwards, reverse=True) == [4, 4, 4, 4, 2]


def test_a_unit_that_cannot_be_read_takes_no_other_down(place, tiny_clip, tmp_path, monkeypatch):
    step = EmbedStep(ClipSpec(model=str(tiny_clip), batch_size=4))
    expected = embedded(step, place.archive, tmp_path / "whole", overlap=2)
    broken = sorted(expected)

    def read(shard):
        yield from records(shard)
        if shard.fingerprint in broken[0]:
            raise StorageError("the bucket does not answer")

    records = embed.read_shard
    monkeypatch.setattr(embed, "read_shard", read)
    store, source = Store(str(tmp_path / "cut")), open_source(str(place.archive), shard_records=5)
    workers = Workers(overlap=8, max_attempts=1)
    report = run_stage(LocalExecutor(), step, archive_units(source, "features"), Ledger(store), workers)
    assert [failure.path for failure in report.failures] == broken[:1]
    assert {path: store.get(path) for path in store.list("features")} == {path: expected[path] for path in broken[1:]}


def test_an_error_of_the_gpu_stops_its_process_and_not_only_one_unit(place, tiny_clip, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(HostDevice, "forward", broken)
    with pytest.raises(WorkerBrokenError, match=r"illegal memory access.*; in one process, run again\."):
        embedded(EmbedStep(ClipSpec(model=str(tiny_clip))), place.archive, tmp_path / "out", 2)


def test_few_records_are_read_ahead_of_the_threads_that_decode(tmp_path, monkeypatch):
    """Here the first one hangs."""
    for number in range(40):
        (tmp_path / f"{number:02}.jpg").write_bytes(b"no image")
    (shard,) = open_source(str(tmp_path)).shards()
    step, read, held, records = EmbedStep(ClipSpec(), helper_threads=1), [], threading.Event(), embed.read_shard

    def counted(shard):
        for record in records(shard):
            read.append(record.key)
            if len(read) == embed.READ_AHEAD + 1:
                threading.Timer(0.1, held.set).start()
            assert len(read) <= embed.READ_AHEAD + 1 or held.is_set()
            yield record

    def decode(*arguments):
        held.wait()
        return _decode(*arguments)

    _decode = embed._decode
    monkeypatch.setattr(embed, "read_shard", counted)
    monkeypatch.setattr(embed, "_decode", decode)
    assert len(step.prepare(embed.Tools(list, 32), EmbedUnit(shard)).rows) == 40


def test_the_load_of_a_stage_is_that_of_all_its_reports(place, tiny_clip, tmp_path):
    step = EmbedStep(ClipSpec(model=str(tiny_clip)), decode_threads=4, helper_threads=3)
    store, source = Store(str(tmp_path / "out")), open_source(str(place.archive), shard_records=5)
    units = archive_units(source, "features")
    report = run_stage(LocalExecutor(), step, units, Ledger(store), Workers(overlap=2))
    assert set(report.busy_s) == {"active", "reading", "decoding", "device", "writing"}
    busy_s = {"active": 5.0, "reading": 4.0, "decoding": 10.0, "device": 2.0, "writing": 1.0}
    reports = [
        replace(report, busy_s=busy_s, units_s=15.0),
        replace(report, busy_s={"active": 5.0, "decoding": 10.0}, units_s=5.0),
    ]
    assert step.load(reports) == StageLoad(reading=0.2, decoding=0.5, device=0.2, writing=0.05)
    assert step.load([]) is None
