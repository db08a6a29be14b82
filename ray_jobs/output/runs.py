"""The runs of an output, found in storage by a few requests each, however many parts they have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from cluster import ClusterError, Storage, Store
from ray_jobs.errors import JobError
from ray_jobs.job_file.reading import job_file_text
from ray_jobs.job_file.sections import Job
from ray_jobs.output.layout import JOB, METRICS, PLAN, to_json
from ray_jobs.preflight import INTERACTIVE

_MOST_LOOKED_INTO = 50
_FEW = 3


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has begun: `classify` and `evaluate` write their plan first.

    Attributes:
        name: of its folder.
        plan: what it set out to do.
        metrics: what came out; None as long as it has not come to an end.
    """

    name: str
    plan: dict[str, Any]
    metrics: dict[str, Any] | None

    @property
    def folder(self) -> str:
        """Where it lies in the output."""
        return f"runs/{self.name}"

    @property
    def is_evaluation(self) -> bool:
        """Whether methods are measured; otherwise an archive is labelled."""
        return "cells" in self.plan


def begin(store: Store, folder: str, job: Job, plan: Mapping[str, Any]) -> None:
    """Write what a run sets out to do, so that it is found from now on.

    Args:
        store: the output.
        folder: of the run.
        job: its job file.
        plan: see `Run`.
    """
    store.put(f"{folder}/{JOB}", job_file_text(job).encode())
    store.put(f"{folder}/{PLAN}", to_json(plan))


def open_output(output: str, storage: Storage) -> Store:
    """The store of an output that somebody wants to look into.

    Raises:
        JobError: nothing can be looked up there.
    """
    try:
        store = Store(output, storage=storage, retry=INTERACTIVE)
        store.check_access()
    except (ClusterError, OSError) as error:
        raise JobError([str(error)]) from error
    return store


def runs_of(store: Store) -> Iterator[Run]:
    """The runs of an output, by name."""
    for folder in store.folders("runs"):
        if (plan := _read(store, f"{folder}/{PLAN}")) is not None:
            yield Run(folder.removeprefix("runs/"), plan, _read(store, f"{folder}/{METRICS}"))


def outputs_below(store: Store) -> list[str]:
    """Outputs one or two levels down, which somebody who names this folder as an output may have meant."""
    near = list(islice(store.folders(), _MOST_LOOKED_INTO))
    far = (folder for parent in near for folder in store.folders(parent))
    return [store.url(folder) for folder in islice(chain(near, far), _MOST_LOOKED_INTO) if _is_output(store, folder)]


def _is_output(store: Store, folder: str) -> bool:
    runs = islice(store.folders(f"{folder}/runs"), _FEW)
    return any(store.exists(f"{run}/{PLAN}") for run in runs)


def _read(store: Store, path: str) -> Any:
    with suppress(FileNotFoundError):
        return json.loads(store.get(path))
    return None
