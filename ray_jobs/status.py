"""How far the runs of an output are, from what lies in storage: nothing has to be running, or reachable."""

from __future__ import annotations

import json
import posixpath
from collections import defaultdict
from contextlib import suppress
from typing import Any

from cluster import Storage, Store
from cluster.storage import DEFAULT_STORAGE
from ray_jobs.escalation import FIRST_OPINIONS
from ray_jobs.layout import METRICS, PLAN, PREDICTIONS


def read_status(output: str, storage: Storage = DEFAULT_STORAGE) -> dict[str, Any]:
    """Look at an output.

    Args:
        output: any fsspec URL.
        storage: how S3 is reached.

    Returns:
        its runs with their state: "complete", "incomplete" (finished with failures; run again), "embedding",
        "labelling" or "asking" a diffusion model (running, or stopped on the way; run again to resume).

    Raises:
        StorageError: storage does not answer.
    """
    store = Store(output, storage=storage)
    parts: dict[tuple[str, str], int] = defaultdict(int)
    names = set()
    for path in store.list("runs"):
        _, name, *rest = path.split("/")
        if not rest:  # a stray file
            continue
        names.add(name)
        parts[name, rest[0]] += 1
    runs = [_run(store, name, parts[name, PREDICTIONS], parts[name, FIRST_OPINIONS]) for name in sorted(names)]
    return {"output": store.root, "runs": runs}


def _run(store: Store, name: str, labelled: int, opinions: int) -> dict[str, Any]:
    metrics, plan = _read(store, f"runs/{name}/{METRICS}"), _read(store, f"runs/{name}/{PLAN}")
    run: dict[str, Any] = {"run": name, "images": None, "accuracy": None, "parts": "–"}
    if plan is None:  # an evaluation
        return run | {"state": "complete" if metrics and metrics["complete"] else "incomplete"}
    shards = plan["archive"]["shards"]
    run |= {"images": plan["archive"]["images"], "examples": plan["examples"], "classes": plan["classes"]}
    if metrics is not None:
        run |= {"accuracy": (metrics["measured"] or {}).get("accuracy"), "images": metrics["images"]}
        return run | {"state": "complete" if metrics["complete"] else "incomplete", "parts": f"{labelled}/{shards}"}
    if opinions == shards:
        return run | {"state": "asking", "parts": f"{labelled}/{shards}"}
    if labelled or opinions:
        return run | {"state": "labelling", "parts": f"{labelled or opinions}/{shards}"}
    folders = {posixpath.dirname(part) for part in plan["features"]}
    embedded = len({path for folder in folders for path in store.list(folder)} & set(plan["features"]))
    return run | {"state": "embedding", "parts": f"{embedded}/{shards}"}


def _read(store: Store, path: str) -> Any:
    with suppress(FileNotFoundError):
        return json.loads(store.get(path))
    return None
