"""Scoring a thousand classes at the full shape of Stable Diffusion, and training them: reads, bytes and forwards.

Units are cut and workers remember by the real code; adapters have their shapes and no data, and no forward is run. The
device's and the storage's rates are given, so a second of theirs costs nothing here.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from cluster.execution.schedule import LOOKAHEAD, preferred
from fewshot.diffusion.lora import LoraPair, Pairs, sites, unet_sites
from fewshot.diffusion.training_memory import GIB, TrainingShape, choose_checkpointing, count_training_memory
from ray_jobs.escalation import scoring_plan
from ray_jobs.escalation.rounds import score_candidates
from ray_jobs.escalation.score_unit import ScoreUnit
from ray_jobs.escalation.scoring_plan import ScoringPlan
from ray_jobs.steps import diffusion_worker, latents
from ray_jobs.steps.diffusion_worker import ADAPTER_SHARE, LATENT_BYTES, ClassPrompt, DiffusionWorker
from ray_jobs.steps.latents import Latents
from ray_jobs.steps.recently_used import RecentlyUsed
from tests.bench.result import Gate, Result
from tests.stable_diffusion import LATENTS, LENGTH, WIDTH, stable_diffusion

CLASSES, CANDIDATES, STEPS, RANK = 1000, 5, 100, 16
IMAGES_PER_PART, BATCH = 26, 32
FORWARDS_A_SECOND, BYTES_A_SECOND = 491.0, 200e6
"""Of one device (an H100 at half of its limit), and of what one worker reads."""
FORMER_CLASSES = 256
"""That a worker kept, in float32."""
GPUS_GIB = (24, 80)
OLD, NEW = "by images, as before", "by classes"


@dataclass
class Counts:
    """What workers read and computed.

    Attributes:
        units, uses: units of scoring, and the classes of all units added up.
        found: uses whose class was in the worker's memory when the unit began to read.
        ready: uses whose class was there when the device was free for the unit.
        classes_read: adapters read.
        bytes_read: of adapters and latents.
        text_forwards: of the text encoder.
        rows: of forwards of the UNet, filled up.
        waited_s: time that devices waited for reads.
        busy_s: time that devices computed.
    """

    units: int = 0
    uses: int = 0
    found: int = 0
    ready: int = 0
    classes_read: int = 0
    bytes_read: float = 0.0
    text_forwards: int = 0
    rows: int = 0
    waited_s: float = 0.0
    busy_s: float = 0.0


@dataclass(order=True)
class SimulatedDevice:
    """A worker whose device takes a given time.

    Attributes:
        free_s: when the worker takes its next unit.
        number: of the worker.
        ends: when the units that it has end.
        worker: the real one.
        had: what its units needed.
    """

    free_s: float
    number: int
    ends: list[float] = field(compare=False)
    worker: DiffusionWorker = field(compare=False)
    had: set[Hashable] = field(compare=False, default_factory=set)


@dataclass(frozen=True)
class Way:
    """A way to score.

    Attributes:
        classes_in_memory: of a round, beyond which units are cut by classes.
        adapter_bytes: memory of a worker for adapters.
        class_bytes: read for each class.
        text_forwards: for each class read.
        overlap: units in a worker at a time.
        lookahead: units among which a free worker takes the one whose classes it had.
    """

    classes_in_memory: float
    adapter_bytes: int
    class_bytes: int
    text_forwards: int
    overlap: int
    lookahead: int


def run(*, images: int, repeat: int) -> Result:
    """Score images with five of a thousand classes each, and count what training takes.

    Args:
        images: escalated images.
        repeat: not used: nothing is timed.
    """
    del repeat
    table = error_table(images)
    rows, counts = [], {}
    for workers in (1, 8):
        for gib in GPUS_GIB:
            counts[NEW, workers, gib] = simulate(table, new_way(gib), workers)
        counts[OLD, workers, 80] = simulate(table, old_way(), workers)
    for (name, workers, gib), each in counts.items():
        rows.append(_row(name, workers, gib, each))
    return Result("diffusion", "scoring 1,000 classes", rows, gates(counts))


def gates(counts: dict[tuple[str, int, int], Counts]) -> list[Gate]:
    """Return the bounds of what is read, found and filled up, in the worst case of workers and memories."""
    new = {key: each for key, each in counts.items() if key[0] == NEW}
    old = {workers: counts[OLD, workers, 80] for workers in (1, 8)}
    reads = max(each.classes_read / old[key[1]].classes_read for key, each in new.items())
    reads_of_eight = max(new[NEW, 8, gib].classes_read for gib in GPUS_GIB) / old[8].classes_read
    size = max(each.bytes_read / old[key[1]].bytes_read for key, each in new.items())
    forwards = max(each.rows / old[key[1]].rows for key, each in new.items())
    return [
        Gate.at_least("classes in memory when the device is free", min(e.ready / e.uses for e in new.values()), 0.95),
        Gate.at_most("adapters read, as a share of before", reads, 0.1),
        Gate.at_most("adapters read by eight workers, as a share of before", reads_of_eight, 0.05),
        Gate.at_most("bytes read, latents included, as a share of before", size, 0.1),
        Gate.at_most("share of the device's time that it waits", max(_waiting(each) for each in new.values()), 0.03),
        Gate.at_most("rows of forwards, as a share of before", forwards, 1.1),
        *memory_gates(),
    ]


def memory_gates() -> list[Gate]:
    """Return the bounds of the memory of training a block of eight classes with prior images at 512 pixels."""
    shape = TrainingShape(block_size=8, terms=2, samples=1, rank=RANK, blocks="none")
    memory = count_training_memory(stable_diffusion(torch.bfloat16), shape)
    assert choose_checkpointing(memory, shape, 12 * GIB)
    return [
        Gate.at_most("GiB to train a block of 8 in bf16", memory.plain_bytes / GIB, 20.0),
        Gate.at_most("GiB to train a block of 8 in bf16, checkpointed", memory.least_bytes / GIB, 10.0),
    ]


def new_way(gib: int) -> Way:
    """Return the way of this version on a GPU with so much memory."""
    class_bytes = adapter_bytes(unet_pairs()) + 2 * LENGTH * WIDTH
    kept = int(ADAPTER_SHARE * gib * GIB)
    return Way(scoring_plan.CLASSES_IN_MEMORY, kept, class_bytes, 0, overlap=2, lookahead=LOOKAHEAD)


def old_way() -> Way:
    """Return the way before: 256 classes kept, adapters of both networks read, each prompt encoded alone."""
    text = {site: _pair(layer) for site, layer in sites(stable_diffusion(torch.bfloat16).text_encoder).items()}
    kept = FORMER_CLASSES * (adapter_bytes(unet_pairs()) + 2 * LENGTH * WIDTH)
    return Way(math.inf, kept, adapter_bytes(unet_pairs()) + adapter_bytes(text), 1, overlap=1, lookahead=1)


@cache
def unet_pairs() -> Pairs:
    """Return the adapters of one class at all sites, without data."""
    return {site: _pair(layer) for site, layer in unet_sites(stable_diffusion(torch.bfloat16).unet).items()}


def _pair(layer: torch.nn.Linear) -> LoraPair:
    shapes = (1, RANK, layer.in_features), (1, layer.out_features, RANK)
    return LoraPair(*(torch.empty(shape, dtype=torch.float16, device="meta") for shape in shapes))


def adapter_bytes(pairs: Pairs) -> int:
    """Return the bytes of adapters in half precision."""
    return sum(half.nbytes for pair in pairs.values() for half in pair)


def error_table(images: int) -> np.ndarray:
    """Return noise errors [N, C, n] float32 whose races take some 90 queries an image."""
    generator = np.random.default_rng(0)
    distance = generator.gamma(1.2, 0.1, (images, CANDIDATES, 1))
    distance -= distance.min(axis=1, keepdims=True)
    noise = generator.normal(0.0, 0.02, (images, CANDIDATES, STEPS))
    shared = generator.normal(0.0, 0.1, (images, 1, STEPS))
    return (0.5 + distance + noise + shared).astype(np.float32)


def make_plan(images: int) -> ScoringPlan:
    """Return the queries' plan: any five of the classes for an image."""
    generator = np.random.default_rng(1)
    candidates = np.stack([generator.choice(CLASSES, CANDIDATES, replace=False) for _ in range(images)])
    return ScoringPlan(
        parts=tuple(f"latents/{part}" for part in range(-(-images // IMAGES_PER_PART))),
        part=np.arange(images) // IMAGES_PER_PART,
        row=np.arange(images) % IMAGES_PER_PART,
        candidates=candidates,
        class_prompts=tuple(ClassPrompt(f"a picture of a hta {k}", f"adapters/tif/{k}") for k in range(CLASSES)),
        steps=np.arange(5, 1000, 10),
        seed=0,
        unet_scale=0.6,
        batch_size=BATCH,
        images_in_memory=LATENT_BYTES // (2 * 4 * math.prod(LATENTS)),
    )


def simulate(table: np.ndarray, way: Way, workers: int) -> Counts:
    """Race all images, and count what the workers read and compute."""
    plan, counts = make_plan(len(table)), Counts()
    devices = [SimulatedDevice(0.0, number, [], _worker(way)) for number in range(workers)]

    def score(number: int, image: np.ndarray, column: np.ndarray, entry: np.ndarray) -> np.ndarray:
        begin = max(device.ends[-1] if device.ends else 0.0 for device in devices)
        for device in devices:
            device.free_s, device.ends = begin, [begin]
        heapq.heapify(devices)
        units = plan.query_units(f"round-{number}", image, column, entry, backwards=number % 2 == 1)
        pending = [unit for unit, _ in units]
        while pending:
            device = heapq.heappop(devices)
            unit = pending.pop(preferred(pending[: way.lookahead], device.had))
            device.had.update(unit.needs)
            _run(unit.payload, device, way, counts)
            heapq.heappush(devices, device)
        return table[image, column, entry]

    with _counted(way, counts):
        present, weights = torch.ones(table.shape[:2], dtype=torch.bool), torch.ones(STEPS, dtype=torch.float64)
        score_candidates("racing", present, weights, score, error_rate=0.05)
    return counts


def _worker(way: Way) -> DiffusionWorker:
    backbone: Any = stable_diffusion(torch.bfloat16)
    return DiffusionWorker(
        store=None,  # type: ignore[arg-type]
        backbone=backbone,
        classes=RecentlyUsed(way.adapter_bytes, lambda loaded: loaded.nbytes),
    )


def _run(unit: ScoreUnit, device: SimulatedDevice, way: Way, counts: Counts) -> None:
    """Run a unit on a worker, and set when the worker takes another one."""
    before, found, rows = counts.bytes_read, device.worker.classes.found, counts.rows
    unit.run(device.worker)
    read_s = (counts.bytes_read - before) / BYTES_A_SECOND
    busy_s = (counts.rows - rows) / FORWARDS_A_SECOND
    is_read, is_free = device.free_s + read_s, device.ends[-1]
    begin = max(is_read, is_free)
    found = device.worker.classes.found - found
    counts.units += 1
    counts.uses += len(unit.classes)
    counts.found += found
    counts.ready += len(unit.classes) if is_read <= is_free else found
    counts.waited_s += begin - is_free
    counts.busy_s += busy_s
    device.ends.append(begin + busy_s)
    device.free_s = device.ends[-way.overlap]


@contextmanager
def _counted(way: Way, counts: Counts) -> Iterator[None]:
    """Replace storage and forwards by counters."""
    context = torch.empty(1, LENGTH, WIDTH, dtype=torch.bfloat16)

    def get_adapter(*_: object) -> tuple[Pairs, torch.Tensor]:
        counts.classes_read += 1
        counts.bytes_read += way.class_bytes
        counts.text_forwards += way.text_forwards
        return unet_pairs(), context

    def get_latents(_: object, path: str) -> Latents:
        counts.bytes_read += 2 * 4 * math.prod(LATENTS) * IMAGES_PER_PART  # Means and deviations.
        empty = np.broadcast_to(np.float32(0.0), (IMAGES_PER_PART, 2, *LATENTS))
        return Latents((path,) * IMAGES_PER_PART, (None,) * IMAGES_PER_PART, empty, 1000)

    def errors(each: bool) -> Callable[..., torch.Tensor]:
        def count(*arguments: Any, **_: object) -> torch.Tensor:
            queries = arguments[4]
            sizes = queries.label.bincount().tolist() if each else [len(queries)]
            counts.rows += sum(-(-size // BATCH) * BATCH for size in sizes)
            return torch.zeros(len(queries))

        return count

    with ExitStack() as stack:
        for where, name, value in [
            (diffusion_worker, "get_adapter", get_adapter),
            (latents, "_get_means", lambda store, path: _means(get_latents(store, path))),
            (scoring_plan, "CLASSES_IN_MEMORY", way.classes_in_memory),
        ]:
            stack.enter_context(patch.object(where, name, value))
        stack.enter_context(patch("fewshot.diffusion.lora.concatenated_pairs", lambda parts: parts[0]))
        stack.enter_context(patch("fewshot.diffusion.lora.with_all_sites", lambda parts: parts))
        stack.enter_context(patch("fewshot.diffusion.noise_errors.noise_errors", errors(each=False)))
        stack.enter_context(patch("fewshot.diffusion.noise_errors.errors_by_class", errors(each=True)))
        yield


def _means(part: Latents) -> diffusion_worker.LatentMeans:
    """Return means without memory, of their size."""
    return diffusion_worker.LatentMeans(part.images, part.posterior[:, 0])


def _waiting(counts: Counts) -> float:
    return counts.waited_s / (counts.waited_s + counts.busy_s)


def _row(name: str, workers: int, gib: int, counts: Counts) -> dict[str, str | float]:
    return {
        "units": name,
        "workers": workers,
        "GPU, GiB": gib,
        "number of units": counts.units,
        "classes a unit": counts.uses / counts.units,
        "found, %": 100 * counts.found / counts.uses,
        "found when the device is free, %": 100 * counts.ready / counts.uses,
        "adapters read": counts.classes_read,
        "GB read": counts.bytes_read / 1e9,
        "text forwards": counts.text_forwards,
        "rows": counts.rows,
        "device waits, %": 100 * _waiting(counts),
    }
