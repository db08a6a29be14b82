"""Counters for Prometheus, which Ray exports on every node: of units, of retries, and of what units say they did.

A worker counts its own units, so each series has the worker and its node. Ray adds a prefix to names, and a suffix for
counters: `units_done` is `ray_fewshot_units_done_total`. They have the step's class as a label.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from cluster.execution.events import UnitDone, UnitFailed
from cluster.execution.step import Step

PREFIX = "fewshot_"
COUNTERS = {
    "units_done": "Units computed and committed.",
    "units_failed": "Units that raised an error.",
    "unit_seconds": "Seconds from start to commit of the units done.",
    "units_retried": "Units whose worker was lost, which run again on another one.",
    "workers_lost": "Workers that died.",
}
"""Counters of every step. Each key of a unit's summary has one as well, such as `images`, see `Part.summary`."""


def exported_name(counter: str) -> str:
    """Return the name of a counter in Prometheus."""
    return f"ray_{PREFIX}{counter}_total"


def count_unit(step: Step, event: UnitDone | UnitFailed) -> None:
    """Count a unit on the worker that ran it."""
    if isinstance(event, UnitFailed):
        _add(step, "units_failed", 1)
        return
    _add(step, "units_done", 1)
    _add(step, "unit_seconds", event.seconds)
    for name, value in event.summary.items():
        _add(step, name, value)


def count_loss(step: Step, units: int) -> None:
    """Count a lost worker and its units in the driver; a driver outside the cluster (`ray://`) exports nothing."""
    from ray.util.client import ray as client

    if not client.is_connected():
        _add(step, "workers_lost", 1)
        _add(step, "units_retried", units)


def _add(step: Step, name: str, value: float) -> None:
    if value > 0:
        _counter(name).inc(value, tags={"step": type(step).__name__})


@cache
def _counter(name: str) -> Any:
    from ray.util.metrics import Counter

    about = COUNTERS.get(name, f"{name.replace('_', ' ')}, as units count them.")
    return Counter(f"{PREFIX}{name}", description=about, tag_keys=("step",))
