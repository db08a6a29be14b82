"""The scaling of a stage with workers and units that sleep, so that only the cost of orchestration remains."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cluster import Event, Ledger, RayExecutor, Store, Unit, UnitDone, Workers, WorkersReady, run_stage
from tests.bench.result import Gate, Result
from tests.cluster.steps import Device

WORKERS = (1, 2, 4, 8, 16)
UNIT_S = 0.5
STALL_S = 60.0
EVEN, TAILED, STALLED = "even", "heavy-tailed", "one stalls for 60 s"


@dataclass(slots=True)
class Clock:
    """Times of one stage, in seconds; CPU seconds are those of this process."""

    requested: float
    ready: float = 0.0
    first: float = 0.0
    cpu: float = 0.0

    def on_event(self, event: Event) -> None:
        if isinstance(event, WorkersReady):
            self.ready, self.cpu = time.monotonic(), time.process_time()
        if isinstance(event, UnitDone) and not self.first:
            self.first = time.monotonic()


def run(*, images: int, repeat: int, workers: Sequence[int] = WORKERS, unit_s: float = UNIT_S) -> Result:
    """Run units of equal length on more and more workers, then those that are hard to distribute.

    Args:
        images: units for each worker, on average.
        repeat: unused: sleeping does not vary.
        workers: numbers of workers.
        unit_s: seconds that a unit uses the device, on average.
    """
    most = max(workers)
    rows = []
    with tempfile.TemporaryDirectory() as folder, RayExecutor(num_cpus=most) as executor:
        for kind, count in [*((EVEN, count) for count in workers), (TAILED, most // 2 or 1), (STALLED, most // 2 or 1)]:
            work = units(kind, images * count, unit_s=unit_s)
            rows.append(_row(executor, work, Path(folder) / f"{kind} {count}", kind=kind, count=count))
    even = min(float(row["efficiency"]) for row in rows if row["units"] == EVEN)
    return Result(
        "scale",
        f"{images} units of {unit_s:g} s a worker",
        rows,
        [Gate.at_least("efficiency with even units", even, 0.95)],
    )


def units(kind: str, count: int, *, unit_s: float) -> list[Unit]:
    """Return units whose payload is how long they use the device: in their first run, and in later ones."""
    seconds = np.full(count, unit_s)
    if kind == TAILED:
        seconds = np.random.default_rng(0).lognormal(sigma=1.0, size=count)
        seconds *= unit_s / seconds.mean()
    first = seconds.copy()
    if kind == STALLED:
        first[-1] = STALL_S
    lengths = zip(first.tolist(), seconds.tolist(), strict=True)
    return [Unit(f"out/{index}", (index, *pair)) for index, pair in enumerate(lengths)]


def _row(executor: RayExecutor, work: list[Unit], folder: Path, *, kind: str, count: int) -> dict[str, str | float]:
    """Start the workers with a few units, then measure with all of them ready."""
    ledger, workers, step = Ledger(Store(str(folder / "store"))), Workers(count=count, overlap=2), Device(folder)
    cold = Clock(time.monotonic())
    warm_up = [Unit(f"warm/{index}", (f"warm{index}", 0.3, 0.3)) for index in range(4 * count)]
    run_stage(executor, step, warm_up, ledger, workers, cold.on_event)
    clock = Clock(time.monotonic())
    run_stage(executor, step, work, ledger, workers, clock.on_event)
    took_s = time.monotonic() - clock.ready
    ideal_s = sum(unit.payload[2] for unit in work) / count
    return {
        "workers": str(count),
        "units": kind,
        "ideal s": ideal_s,
        "took s": took_s,
        "efficiency": ideal_s / took_s,
        "driver CPU ms a unit": 1e3 * (time.process_time() - clock.cpu) / len(work),
        "first result, cold s": cold.first - cold.requested,
    }
