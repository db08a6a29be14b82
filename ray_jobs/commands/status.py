"""How far the runs of an output are, from what lies in storage: nothing has to be running, or reachable."""

from __future__ import annotations

import math
import posixpath
import shlex
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from cluster import LeaseState, Storage, Store, lease_state
from cluster.errors import DamagedLeaseError
from cluster.storage.settings import DEFAULT_STORAGE
from ray_jobs.console.rate import IMAGES
from ray_jobs.errors import JobError
from ray_jobs.output.latest_runs import read_latest
from ray_jobs.output.layout import JOB, LEASE, PLAN, RUNS
from ray_jobs.output.runs import Run, UnreadableRun, find_runs, no_output, open_output, outputs_below, read_load
from ray_jobs.output.work_share import Progress, measure_progress
from ray_jobs.results.classification_metrics import ClassificationMetrics
from ray_jobs.results.output_status import OutputStatus, RunStatus
from ray_jobs.scheduling.schedule_records import read_schedules


def read_status(output: str, storage: Storage = DEFAULT_STORAGE, *, job_file: str | None = None) -> OutputStatus:
    """Look at an output. Parts are counted only for runs that are not complete.

    Args:
        output: any fsspec URL.
        storage: how S3 is reached.
        job_file: that names the output, which may have no run yet; None if the output was named by itself.

    Raises:
        JobError: nothing can be looked up there, or there is no output.
        StorageError: storage does not respond any more.
    """
    store = open_output(output, storage)
    found = tuple(find_runs(store))
    if not found and job_file is None:
        raise no_output(store)
    newest = _newest(store, [run for run in found if isinstance(run, Run)])
    runs = tuple(
        replace(status, newest=True, embedding=read_load(store, f"{RUNS}/{newest}")) if status.run == newest else status
        for status in (_status(store, run, job_file) for run in found)
    )
    return OutputStatus(
        output=store.root,
        runs=runs,
        below=() if runs else tuple(outputs_below(store)),
        schedules=tuple(read_schedules(store, now=datetime.now(UTC))),
    )


def _newest(store: Store, runs: Sequence[Run]) -> str | None:
    """Return the name of the run that was begun or resumed last; None if storage does not report times.

    Of the complete runs, only the newest of each job counts, so that few times are looked up.
    """
    if len(runs) < 2:
        return runs[0].name if runs else None
    latest = _latest_names(store)
    chosen = [run for run in runs if not run.is_complete or run.name in latest] or runs
    if len(chosen) == 1:
        return chosen[0].name
    ages = {run.name: age for run in chosen if (age := store.age_s(f"{run.folder}/{PLAN}")) is not None}
    return min(ages, key=lambda name: ages[name]) if ages else None


def _latest_names(store: Store) -> frozenset[str]:
    try:
        latest = read_latest(store)
    except JobError:  # Damaged, or of a newer version.
        return frozenset()
    folders = [] if latest is None else [folder for kinds in latest.jobs.values() for folder in kinds.values()]
    return frozenset(map(posixpath.basename, folders))


def _status(store: Store, run: Run | UnreadableRun, job_file: str | None) -> RunStatus:
    if isinstance(run, UnreadableRun):
        return RunStatus(run=run.name, state="unreadable", problem=run.problem)
    files = None if run.is_complete else frozenset(store.list(run.folder))
    lease, damage = _lease(store, run, files)
    progress = _progress(store, run, files)
    listed = None if run.plan.archive is None else run.plan.archive.images
    metrics = run.metrics if isinstance(run.metrics, ClassificationMetrics) else None
    measured = None if metrics is None else metrics.measured
    status = RunStatus(
        run=run.name,
        state=progress.state,
        kind=run.kind,
        job=run.job,
        parts=f"{progress.done}/{progress.parts}",
        images=listed if metrics is None else metrics.images,
        examples=run.plan.examples,
        classes=run.plan.classes,
        accuracy=None if measured is None else measured.accuracy,
        process=damage if lease is None or lease.owner.is_dead else str(lease.owner),
        share=progress.share,
        sign_of_life_s=None if lease is None else lease.age_s,
    )
    if lease is not None and lease.is_alive:
        return _running(status, run, lease)
    return status if run.is_complete else replace(status, resume=_resume_command(store, run, job_file))


def _lease(store: Store, run: Run, files: frozenset[str] | None) -> tuple[LeaseState | None, str | None]:
    """Return the lease on a run, and what is wrong with one that cannot be read."""
    try:
        return lease_state(store, f"{run.folder}/{LEASE}", paths=files), None
    except DamagedLeaseError as error:
        return None, str(error)


def _progress(store: Store, run: Run, files: frozenset[str] | None) -> Progress:
    if files is None:
        return Progress("complete", run.plan.parts, run.plan.parts, 1.0)
    progress = measure_progress(store, run.folder, run.plan, files)
    return progress if run.metrics is None else replace(progress, state="incomplete")


def _running(status: RunStatus, run: Run, lease: LeaseState) -> RunStatus:
    """Add what the process of a run has reported, which is untrusted like everything in storage."""
    note = lease.note
    per_second, left = _number(note.get("per_second")), _number(note.get("seconds_left"))
    unit, share, work = _text(note.get("unit")), status.share, run.plan.work
    embeds_images = status.state == "embedding" and unit == IMAGES
    if per_second and embeds_images and share is not None and work is not None:
        left = (1.0 - share) * work.total / per_second  # Of the whole job.
    return replace(
        status,
        running=True,
        doing=_text(note.get("doing")),
        per_second=per_second,
        unit=unit,
        seconds_left=None if left is None else round(left, 1),
    )


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and math.isfinite(value) and value >= 0
    return float(value) if is_number else None  # type: ignore[arg-type]


def _text(value: object) -> str | None:
    return value[:200] if isinstance(value, str) else None


def _resume_command(store: Store, run: Run, job_file: str | None) -> str:
    """Return the command that resumes a run, with the given job file or the copy beside local results."""
    command = "classify" if run.kind == "classification" else "evaluate"
    if job_file is None:
        job_file = store.url(f"{RUNS}/{run.name}/{JOB}") if store.is_local else "JOB.toml"
    return f"fewshot {command} {shlex.quote(job_file)}"
