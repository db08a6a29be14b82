"""How far the runs of an output are, from what lies in storage: nothing has to be running, or reachable."""

from __future__ import annotations

import posixpath
from collections.abc import Collection
from typing import Any

from cluster import Storage, Store, lease_owner
from cluster.storage.settings import DEFAULT_STORAGE
from ray_jobs.escalation import CHEAP_PREDICTIONS
from ray_jobs.output.layout import LEASE, PREDICTIONS
from ray_jobs.output.runs import Run, open_output, outputs_below, runs_of


def read_status(output: str, storage: Storage = DEFAULT_STORAGE) -> dict[str, Any]:
    """Look at an output. Parts are counted only for runs that have not come to their end.

    Args:
        output: any fsspec URL.
        storage: how S3 is reached.

    Returns:
        `runs`, each with its `state`: "complete", "incomplete" (finished with failures; run again), "embedding",
        "labelling", "asking" a diffusion model or "measuring" methods (running, or stopped on the way; run again to
        resume), `parts` of that state that are there, and `process`: who is at work on it, or was killed at it on
        another machine, None if nobody. Where there are none, `below`: outputs in folders below.

    Raises:
        JobError: nothing can be looked up there.
        StorageError: storage does not answer any more.
    """
    store = open_output(output, storage)
    runs = [_told(store, run) for run in runs_of(store)]
    return {"output": store.root, "runs": runs, "below": [] if runs else outputs_below(store)}


def _told(store: Store, run: Run) -> dict[str, Any]:
    owner = lease_owner(store, f"{run.folder}/{LEASE}")
    state, there, of = _progress(store, run)
    metrics, archive = run.metrics or {}, run.plan.get("archive", {})
    return {
        "run": run.name,
        "state": state,
        "parts": f"{there}/{of}",
        "images": metrics.get("images", archive.get("images")),
        "examples": run.plan.get("examples"),
        "classes": run.plan["classes"],
        "accuracy": (metrics.get("measured") or {}).get("accuracy"),
        "process": None if owner is None else str(owner),
    }


def _progress(store: Store, run: Run) -> tuple[str, int, int]:
    """What a run is at, how many parts of that are there, and how many there will be."""
    results = run.plan["cells"] if run.is_evaluation else range(run.plan["archive"]["shards"])
    if run.metrics is not None and run.metrics["complete"]:
        return "complete", len(results), len(results)
    if run.is_evaluation:
        done, state = _there(store, run.plan["cells"]), "measuring"
    else:
        cheap_predictions = _count(store, f"{run.folder}/{CHEAP_PREDICTIONS}")
        done = _count(store, f"{run.folder}/{PREDICTIONS}")
        state = "asking" if cheap_predictions == len(results) else "labelling"
        done = done if state == "asking" else done or cheap_predictions
    if run.metrics is not None:
        return "incomplete", done, len(results)
    if done or state == "asking":
        return state, done, len(results)
    return "embedding", _there(store, run.plan["features"]), len(run.plan["features"])


def _count(store: Store, folder: str) -> int:
    return sum(1 for _ in store.list(folder))


def _there(store: Store, parts: Collection[str]) -> int:
    """How many of these parts there are."""
    folders = {posixpath.dirname(part) for part in parts}
    return len({path for folder in folders for path in store.list(folder)}.intersection(parts))
