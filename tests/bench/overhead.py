"""Units per second of an executor, when a unit only commits an empty part."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cluster import (
    Event,
    Executor,
    Ledger,
    LocalExecutor,
    RayExecutor,
    Step,
    Store,
    Unit,
    Workers,
    WorkersReady,
    run_stage,
)
from tests.bench.result import Gate, Result, medians
from tests.cluster.steps import Device, NoOp, units

WORKERS = 2
UNIT_S = 0.1
PLAIN, LOCAL, TASKS, RAY = "a plain loop", "LocalExecutor", "plain Ray tasks", "RayExecutor"
DEVICE = "RayExecutor, units of 100 ms"
BASELINES = {PLAIN: PLAIN, LOCAL: PLAIN, TASKS: TASKS, RAY: TASKS}


def run(*, images: int, repeat: int) -> Result:
    """Run each executor and its baseline in turns; Ray starts after the other two have finished.

    Args:
        images: number of units.
        repeat: rounds.
    """
    rates: Mapping[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        with LocalExecutor() as local:
            for turn in range(repeat):
                here = Workers(overlap=1)
                rates[PLAIN].append(_plain(units(images), _ledger(folder, PLAIN, turn)))
                rates[LOCAL].append(_executor(local, NoOp(), units(images), _ledger(folder, LOCAL, turn), here))
        # The executor keeps its workers, also those of each round's device: without CPUs of their own, the plain tasks
        # would wait for ever.
        with RayExecutor(num_cpus=(2 + repeat) * WORKERS) as ray:
            for turn in range(repeat):
                there = Workers(count=WORKERS, overlap=2)
                rates[TASKS].append(_tasks(units(images), _ledger(folder, TASKS, turn)))
                rates[RAY].append(_executor(ray, NoOp(), units(images), _ledger(folder, RAY, turn), there))
                rates[DEVICE].append(_devices(ray, images // 5 or 1, Path(folder) / f"{turn}-device", there))
    rate = medians(rates)
    rows = [
        {"executor": name, "units/s": rate[name], "baseline": baseline, "ratio": rate[name] / rate[baseline]}
        for name, baseline in BASELINES.items()
    ]
    share = rate[DEVICE] * UNIT_S / WORKERS
    rows.append({"executor": DEVICE, "units/s": rate[DEVICE], "baseline": "their devices alone", "ratio": share})
    gate = Gate.at_least("share of what the devices do in units of 100 ms", share, 0.95)
    return Result("overhead", f"{images} units that do nothing but commit an empty part", rows, [gate])


def _ledger(folder: str, name: str, turn: int) -> Ledger:
    return Ledger(Store(f"{folder}/{turn}-{name.replace(' ', '-')}"))


def _plain(work: Iterable[Unit], ledger: Ledger) -> float:
    work, started = list(work), time.monotonic()
    for unit in work:
        _commit(unit, ledger)
    return len(work) / (time.monotonic() - started)


def _commit(unit: Unit, ledger: Ledger) -> None:
    ledger.commit(unit.path, NoOp().run(None, unit.payload).data)


def _devices(executor: Executor, count: int, folder: Path, workers: Workers) -> float:
    """Return the rate of units that keep the only device of their worker busy; the workers start before."""
    step, ledger = Device(folder), Ledger(Store(str(folder / "store")))
    _executor(executor, step, [Unit(f"warm/{name}", (f"warm{name}", 0.5, 0.5)) for name in range(8)], ledger, workers)
    work = [Unit(f"out/{name}", (name, UNIT_S, UNIT_S)) for name in range(count)]
    return _executor(executor, step, work, ledger, workers)


def _executor(executor: Executor, step: Step, work: list[Unit], ledger: Ledger, workers: Workers) -> float:
    """Return the rate from the moment when a worker was ready."""
    ready = time.monotonic()

    def on_event(event: Event) -> None:
        nonlocal ready
        if isinstance(event, WorkersReady):
            ready = time.monotonic()

    report = run_stage(executor, step, work, ledger, workers, on_event)
    assert report.done == len(work)
    return len(work) / (time.monotonic() - ready)


def _tasks(work: list[Unit], ledger: Ledger) -> float:
    """Return the rate of one task for each unit, all at once, without events, retries or skipping of done units."""
    import ray

    task: Any = ray.remote(_commit)
    ray.get([task.remote(unit, ledger) for unit in work[:WORKERS]])
    started = time.monotonic()
    ray.get([task.remote(unit, ledger) for unit in work])
    return len(work) / (time.monotonic() - started)
