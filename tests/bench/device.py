"""The share of a device's rate that a worker reaches: a simulated GPU, fed by real units, threads and buffers."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import torch

from cluster import Ledger, LocalExecutor, Part, Store, Unit, Workers, run_stage
from cluster.records import Record, Shard
from fewshot.backbones import ClipSpec
from ray_jobs.steps import embed
from ray_jobs.steps.device_pipeline import DecodePool, DevicePipeline
from ray_jobs.steps.embed import Embedder, EmbedStep, EmbedUnit
from ray_jobs.steps.placement import GPU_OVERLAP
from ray_jobs.steps.stage_meter import StageMeter
from tests.bench.contenders.stub import SIZE, stub_backbone
from tests.bench.photographs import HEIGHT, WIDTH, jpeg, photograph
from tests.bench.result import Gate, Result
from tests.simulated_device import DIM, SimulatedDevice

BATCH, BATCH_S, COPY_S = 128, 0.05, 0.003
"""Of a model of 2,560 images a second, and of 19 MB over PCI Express."""
LATENCY_S = 0.08
"""Until the first image of a shard arrives, and again until its part is committed."""
SHARD_IMAGES = (128, 384)
"""Sizes of shards: an archive is cut where the hash of a key says so."""
DECODE_SHARE = 0.6
"""Rate of the device in the second table row, as a share of the rate of decoding."""
OURS, TURNS, DECODED = "shared batches", "two units in turns, a lock", "shared batches, from JPEG"


@dataclass(frozen=True)
class Slow:
    """Records of a shard, from storage that answers after a while."""

    data: bytes
    count: int

    def read(self, *, threads: int, skipped: object) -> Iterator[Record]:
        time.sleep(LATENCY_S)
        for index in range(self.count):
            yield Record(f"{index}", self.data, None, "")


@dataclass(frozen=True, slots=True)
class SimulatedStep(EmbedStep):
    """`EmbedStep` whose backbone is a simulated device."""

    device: SimulatedDevice | None = None

    def setup(self) -> Embedder:
        assert self.device is not None
        meter = StageMeter()
        pipeline = DevicePipeline(self.device, meter)
        return Embedder(stub_backbone(BATCH), DecodePool(self.decode_threads), pipeline, meter, DIM)

    def run(self, state: Embedder, unit: EmbedUnit) -> Part:
        part = EmbedStep.run(self, state, unit)
        time.sleep(LATENCY_S)
        return part


class TurnsStep(SimulatedStep):
    """What the shared batches replaced: a unit has the device alone, waits for each batch, and pads its last one."""

    def run(self, state: Embedder, unit: EmbedUnit) -> Part:
        assert self.device is not None
        pixels = [embed._decode(self.tools(state), record, 0).pixels for record in embed.read_shard(unit.shard)]
        with LOCK:
            for start in range(0, len(pixels), BATCH):
                batch = np.concatenate(pixels[start : start + BATCH])
                buffer = self.device.new_buffer()
                buffer.pixels[: len(batch)] = batch
                self.device.forward(buffer, len(batch), dense=False).wait()
        time.sleep(LATENCY_S)
        return Part(b"")


LOCK = threading.Lock()


def run(*, images: int, repeat: int) -> Result:
    """Embed shards of uneven sizes with each contender.

    Args:
        images: number of images, from ready pixels and then from JPEG files.
        repeat: unused: sleeping does not vary.
    """
    pixels = torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8)
    rows = []
    with ready(pixels):
        row("imports", SimulatedStep, 1, BATCH, b"", 0.0)
        for name, kind, overlap in ((TURNS, TurnsStep, 2), (OURS, SimulatedStep, GPU_OVERLAP)):
            rows.append(row(name, kind, overlap, images, b"", BATCH_S))
    photo = jpeg(photograph(0, WIDTH, HEIGHT))
    rate = decoding_rate(photo)
    rows.append(row(DECODED, SimulatedStep, GPU_OVERLAP, images, photo, BATCH / (DECODE_SHARE * rate)))
    by_name = {str(each["contender"]): each for each in rows}
    gates = [
        Gate.at_least(f"share of the device's rate, {name}", float(by_name[name]["share of the device"]), 0.95)
        for name in (OURS, DECODED)
    ]
    gates.append(Gate.at_most("rows computed for a real one", float(by_name[OURS]["rows computed / real"]), 1.03))
    return Result("device", f"a simulated GPU with batches of {BATCH}, shards of {SHARD_IMAGES} images", rows, gates)


def row(
    name: str, kind: type[SimulatedStep], overlap: int, images: int, data: bytes, batch_s: float
) -> dict[str, str | float]:
    """Run a stage, and compare its rate with that of its device."""
    device = SimulatedDevice(BATCH, batch_s=batch_s, copy_s=COPY_S, side=SIZE)
    step = kind(ClipSpec(), device=device)
    with tempfile.TemporaryDirectory() as folder, LocalExecutor() as executor:
        started, cpu_s = time.monotonic(), time.process_time()
        report = run_stage(
            executor, step, units(images, data), Ledger(Store(folder)), Workers(overlap=overlap), lambda _: None
        )
        wall_s, cpu_s = time.monotonic() - started, time.process_time() - cpu_s
    ideal_s = max(1e-9, batch_s * images / BATCH)
    assert not report.failed, report.failures
    assert sum(device.batches) == images
    return {
        "contender": name,
        "images": str(images),
        "device images/s": images / ideal_s,
        "images/s": images / wall_s,
        "share of the device": ideal_s / wall_s,
        "rows computed / real": len(device.batches) * BATCH / images,
        "CPU ms an image": 1000 * cpu_s / images,
    }


def units(images: int, data: bytes) -> Iterator[Unit]:
    """Yield units of uneven sizes, the same ones each time."""
    random, left = np.random.default_rng(0), images
    while left:
        count = min(left, int(random.integers(*SHARD_IMAGES)))
        yield Unit(f"out/{left}", EmbedUnit(Shard(f"{left}", count, Slow(data, count))), weight=count)
        left -= count


@contextmanager
def ready(pixels: torch.Tensor) -> Iterator[None]:
    """Replace decoding: every image has these pixels."""

    def decoded(tools: object, record: Record, views: int) -> embed._Decoded:
        return embed._Decoded(record.key, record.source, None, pixels)

    with patch.object(embed, "_decode", decoded):
        yield


def decoding_rate(jpeg: bytes, *, count: int = 200) -> float:
    """Return how many images a second two threads decode."""
    backbone, record = stub_backbone(BATCH), Record("a", jpeg, None, "")
    tools = embed.Tools(backbone.crop, backbone.longer_side)
    call: Callable[[int], object] = lambda _: embed._decode(tools, record, 0)  # noqa: E731
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(call, range(20)))
        started = time.monotonic()
        list(threads.map(call, range(count)))
    return count / (time.monotonic() - started)
