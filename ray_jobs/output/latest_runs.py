"""`latest.json` of an output: the newest complete run of each job, for readers that know a job's name only."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from cluster import Lease, Store, acquire_lease
from cluster.errors import LeaseHeldError
from ray_jobs.results.json_format import FormatError, JsonDocument, NewerFormatError
from ray_jobs.results.run_plan import RunKind

LATEST, LATEST_LEASE = "latest.json", "latest-lease"
LEASE_TERM_S = 10.0
ATTEMPTS = 6
"""How often the lease is waited for, for a term at most; it is held for as long as two small requests take."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatestRuns(JsonDocument):
    """The newest complete runs of an output.

    Attributes:
        jobs: by job name and kind of run, the run's folder in the output.
    """

    format_version: ClassVar[int] = 2
    jobs: Mapping[str, Mapping[RunKind, str]]

    def with_run(self, job: str, kind: RunKind, folder: str) -> LatestRuns:
        """Return the same with another newest run of a job."""
        return LatestRuns(jobs=dict(sorted({**self.jobs, job: {**self.jobs.get(job, {}), kind: folder}}.items())))


def read_latest(store: Store) -> LatestRuns | None:
    """Return the newest complete runs; None where no run of the output is complete.

    Raises:
        FormatError: the file is damaged or from a newer version.
    """
    with suppress(FileNotFoundError):
        return LatestRuns.from_json(store.get(LATEST), where=store.url(LATEST))
    return None


def record_latest(store: Store, job: str, kind: RunKind, folder: str) -> None:
    """Note that a run is complete and the newest of its job. Several processes may do so at once.

    Nothing is written where that is noted already. A damaged file is written anew; one of a newer version of fewshot is
    left alone. Where other processes hold the lease for long, that is logged, and the next run of the job notes it.

    Args:
        store: the output.
        job: name of the job.
        kind: of the run.
        folder: of the run.

    Raises:
        StorageError: storage does not respond.
    """
    if _is_noted(store, job, kind, folder):
        return
    for _ in range(ATTEMPTS):
        with suppress(LeaseHeldError), acquire_lease(store, LATEST_LEASE, term_s=LEASE_TERM_S) as lease:
            _note(store, lease, job, kind, folder)
            return
    logger.warning("latest run not noted, run again to note it run=%s lease=%s", folder, store.url(LATEST_LEASE))


def _is_noted(store: Store, job: str, kind: RunKind, folder: str) -> bool:
    """Whether there is nothing to write."""
    try:
        found = read_latest(store)
    except NewerFormatError as error:
        logger.warning("latest run not noted run=%s error=%s", folder, error)
        return True
    except FormatError:
        return False
    return found is not None and found.jobs.get(job, {}).get(kind) == folder


def _note(store: Store, lease: Lease, job: str, kind: RunKind, folder: str) -> None:
    try:
        found = read_latest(store)
    except FormatError as error:
        logger.warning("latest runs begun anew error=%s", error)
        found = None
    lease.check()
    store.put(LATEST, (found or LatestRuns(jobs={})).with_run(job, kind, folder).to_bytes())
