"""The gain of helpers on another node, where decoding is the bottleneck, and where it is not."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from cluster import Event, Helpers, Ledger, RayExecutor, Store, Workers, WorkersReady, run_stage
from tests.bench.result import Gate, Result
from tests.cluster.several_nodes import Nodes, several_nodes
from tests.cluster.steps import SplitSquare, units

CASES = {"decoding is slow": (0.4, 0.1), "forwards are slow": (0.1, 0.4)}
"""CPU seconds of the first half of a unit, and seconds that the second half uses the device."""


def run(*, images: int, repeat: int) -> Result:
    """Run one worker on a node with one CPU, alone and with helpers on a second node.

    Args:
        images: number of units.
        repeat: unused.
    """
    rows = []
    with several_nodes() as cluster, tempfile.TemporaryDirectory() as folder:
        for case, (work_s, device_s) in CASES.items():
            alone, helped = (
                cluster.call(_rate, Path(folder) / case / str(helpers), work_s, device_s, images, helpers)
                for helpers in (0, 1)
            )
            rows.append({"case": case, "alone, units/s": alone, "helped, units/s": helped, "gain": helped / alone})
    gates = [
        Gate.at_least("gain where decoding is slow", float(rows[0]["gain"]), 1.3),
        Gate.at_least("gain where forwards are slow", float(rows[1]["gain"]), 0.9),
    ]
    return Result("split", f"{images} units, one worker with one CPU, one helper with another", rows, gates)


def _rate(nodes: Nodes, folder: Path, work_s: float, device_s: float, count: int, helpers: int) -> float:
    """Return units per second, after workers and helpers have started."""
    nodes.ensure("a", "b")
    helpers_on_b = Helpers(count=helpers, labels=(("name", "b"),)) if helpers else None
    workers = Workers(labels=(("name", "a"),), helpers=helpers_on_b)
    step, ledger = SplitSquare(folder, work_s=work_s, device_s=device_s), Ledger(Store(str(folder / "store")))
    ready = 0.0

    def on_event(event: Event) -> None:
        nonlocal ready
        if isinstance(event, WorkersReady):
            ready = time.monotonic()

    with RayExecutor("auto") as executor:
        run_stage(executor, step, units(10, folder="warm"), ledger, workers)
        run_stage(executor, step, units(count), ledger, workers, on_event)
    return count / (time.monotonic() - ready)
