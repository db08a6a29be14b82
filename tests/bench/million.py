"""A million images on 2 to 16 simulated GPUs: listed and distributed for real, embedded by sleeping."""

from __future__ import annotations

import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cluster import Event, Ledger, LocalExecutor, Part, RayExecutor, Store, UnitDone, Workers, WorkersReady, run_stage
from ray_jobs.inputs.archive import archive_units, open_archive
from ray_jobs.job_file.sections import ArchiveSection
from ray_jobs.steps.embed import EmbedUnit
from tests.bench.archive import write_table
from tests.bench.result import Gate, Result

WORKERS = (2, 4, 8, 16)
SHARD_IMAGES = 256
DEVICE_IMAGES_S = 2400.0
"""Images a second of a simulated GPU: half of what a ViT-L/14 could do on an H100 in bfloat16."""
WARM_UP_UNITS, WARM_UP_SHARD = 3, 20 * SHARD_IMAGES
"""Units for each worker before the measurement, so long that every worker starts meanwhile."""
MIB = 2**20


@dataclass(frozen=True, slots=True)
class SimulatedGpu:
    """Occupies the only device of its worker for as long as a GPU would need for the images of a shard."""

    images_s: float = DEVICE_IMAGES_S

    def setup(self) -> threading.Lock:
        """Return the device."""
        return threading.Lock()

    def run(self, state: threading.Lock, unit: EmbedUnit) -> Part:
        """Sleep, and commit a part with nothing in it."""
        images = unit.shard.size or 1
        with state:
            time.sleep(images / self.images_s)
        return Part(b"", {"images": float(images)})


def run(*, images: int, repeat: int, workers: Sequence[int] = WORKERS) -> Result:
    """Run stages on more and more workers, each with an archive in proportion to their number.

    Args:
        images: of the largest archive.
        repeat: unused: sleeping does not vary.
        workers: numbers of workers.
    """
    most = max(workers)
    with tempfile.TemporaryDirectory() as folder:
        with RayExecutor(num_cpus=most) as executor:
            rows = [_row(executor, Path(folder) / str(count), images * count // most, count) for count in workers]
        writes = per_image_writes(Path(folder) / "writes")
    growth = [float(row["driver's memory, growth in MiB"]) for row in rows]
    gates = [
        Gate.at_least("efficiency", min(float(row["efficiency"]) for row in rows), 0.97),
        Gate.at_most("growth of the driver's memory, MiB", max(growth), 64),
    ]
    return Result("million", f"simulated GPUs of {DEVICE_IMAGES_S:g} images/s; {writes}", rows, gates)


def _row(executor: RayExecutor, folder: Path, images: int, count: int) -> dict[str, str | float]:
    """Start the workers with a few units, then measure with all of them ready."""
    folder.mkdir()
    ledger, workers = Ledger(Store(str(folder / "store"))), Workers(count=count, overlap=2)
    few = write_table(folder / "few.parquet", WARM_UP_UNITS * count * WARM_UP_SHARD, row_group=WARM_UP_SHARD)
    _stage(executor, few, WARM_UP_SHARD, ledger, workers)
    table = write_table(folder / "all.parquet", images, row_group=SHARD_IMAGES)
    before = resident_bytes()
    took_s, cpu_s = _stage(executor, table, SHARD_IMAGES, ledger, workers)
    shards = -(-images // SHARD_IMAGES)
    ideal_s = images / (count * DEVICE_IMAGES_S)
    return {
        "workers": str(count),
        "images": images,
        "ideal s": ideal_s,
        "took s": took_s,
        "efficiency": ideal_s / took_s,
        "driver CPU ms a shard": 1e3 * cpu_s / shards,
        "driver's memory, growth in MiB": max(0, resident_bytes() - before) / MIB,
    }


def _stage(
    executor: RayExecutor, table: Path, shard_images: int, ledger: Ledger, workers: Workers
) -> tuple[float, float]:
    """Run a stage over a table; return wall and CPU seconds from the moment when workers were ready."""
    source = open_archive(ArchiveSection(uri=str(table), shard_images=shard_images))
    ready, cpu = time.monotonic(), time.process_time()
    last = ready

    def on_event(event: Event) -> None:
        nonlocal ready, cpu, last
        if isinstance(event, WorkersReady):
            ready, cpu = time.monotonic(), time.process_time()
        if isinstance(event, UnitDone):
            last = time.monotonic()

    report = run_stage(executor, SimulatedGpu(), archive_units(source, table.stem), ledger, workers, on_event)
    assert not report.failed, report.failures
    return last - ready, time.process_time() - cpu


def resident_bytes() -> int:
    """Return the memory of this process that is in RAM (Linux only)."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def per_image_writes(folder: Path, shards: int = 20) -> str:
    """Return files and calls of fsync for an image, counted in this process."""
    images = shards * SHARD_IMAGES
    folder.mkdir()
    table = write_table(folder / "table.parquet", images, row_group=SHARD_IMAGES)
    source = open_archive(ArchiveSection(uri=str(table), shard_images=SHARD_IMAGES))
    with _counted(os, "fsync") as calls, LocalExecutor() as executor:
        ledger = Ledger(Store(str(folder / "store")))
        run_stage(executor, SimulatedGpu(images_s=1e9), archive_units(source, "features"), ledger, Workers())
    files = sum(path.is_file() for path in (folder / "store").rglob("*"))
    return f"{files / images:.4f} files and {calls() / images:.4f} fsyncs an image"


@contextmanager
def _counted(module: Any, name: str) -> Any:
    """Yield a function that returns how often a function was called since then."""
    original: Callable[..., Any] = getattr(module, name)
    with patch.object(module, name, side_effect=original) as mock:
        yield lambda: mock.call_count
