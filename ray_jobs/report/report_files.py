"""Write the report of a run from what lies in storage; find the reports of an output."""

from __future__ import annotations

import io
import logging
import tomllib
from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow.parquet as pq
from pydantic import TypeAdapter

from cluster import Storage, Store
from cluster.secrets import without_credentials
from cluster.storage.settings import DEFAULT_STORAGE
from ray_jobs.job_file.sections import Job
from ray_jobs.output.layout import JOB, PER_CLASS, REPORT
from ray_jobs.output.runs import Run, open_output, outputs_below, runs_of
from ray_jobs.report.classification_page import render
from ray_jobs.report.evaluation_page import render_evaluation
from ray_jobs.report.report_data import gather

logger = logging.getLogger(__name__)


def ensure_report(store: Store, run: str, job: Job | None, *, keep: bool) -> str | None:
    """Write a run's report. A page to look at must never fail a job: trouble is logged, whatever it is.

    The same run gives the same bytes, as long as its pictures can be read.

    Args:
        store: the output.
        run: the run's folder, with metrics, plan, failures and predictions in it.
        job: where the archive and the examples are; None takes it as stored beside the results.
        keep: leave a report alone that is there.

    Returns:
        where it lies; None if it could not be written.
    """
    return _ensure(store, run, lambda: _of_run(store, run, job), keep=keep)


def _ensure(store: Store, run: str, made: Callable[[], bytes], *, keep: bool = True) -> str | None:
    path = f"{run}/{REPORT}"
    try:
        if not (keep and store.exists(path)):
            store.put(path, made())
    except Exception as error:  # the boundary between the job and a page to look at
        reason = without_credentials(f"{type(error).__name__}: {error}")
        logger.warning("no report run=%s error=%s", run, reason, exc_info=logger.isEnabledFor(logging.DEBUG))
        return None
    return store.url(path)


def find_reports(output: str, storage: Storage = DEFAULT_STORAGE) -> dict[str, Any]:
    """Where the reports of an output lie; one that is missing is written anew.

    Args:
        output: any fsspec URL.
        storage: how S3 is reached.

    Returns:
        `reports`: `run` and `path` of every run that has come to an end, the path None if the report could not be
        written; `complete`: whether there are all of them. Where there are none, `below`: outputs in folders below.

    Raises:
        JobError: nothing can be looked up there.
        StorageError: storage does not answer any more.
    """
    store = open_output(output, storage)
    ended = [run for run in runs_of(store) if run.metrics is not None]
    reports = [{"run": run.name, "path": _ensure(store, run.folder, partial(_made, store, run))} for run in ended]
    complete, below = all(report["path"] for report in reports), [] if reports else outputs_below(store)
    return {"output": store.root, "complete": complete, "reports": reports, "below": below}


def _made(store: Store, run: Run) -> bytes:
    return _of_evaluation(store, run) if run.is_evaluation else _of_run(store, run.folder)


def _of_run(store: Store, run: str, job: Job | None = None) -> bytes:
    return render(gather(store, run, job or _stored_job(store, run)))


def _of_evaluation(store: Store, run: Run) -> bytes:
    per_class = pq.read_table(io.BytesIO(store.get(f"{run.folder}/{PER_CLASS}")))
    return render_evaluation(run.metrics or {}, per_class.to_pylist())


def _stored_job(store: Store, run: str) -> Job:
    return TypeAdapter(Job).validate_python(tomllib.loads(store.get(f"{run}/{JOB}").decode()))
