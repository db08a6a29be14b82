"""Write the report of a run from what is stored; find the reports of an output."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from cluster import Storage, Store
from cluster.secrets import redacted
from cluster.storage.settings import DEFAULT_STORAGE
from ray_jobs.job_file.sections import Job
from ray_jobs.output.feature_parts import view_table
from ray_jobs.output.latest_runs import read_latest
from ray_jobs.output.layout import CLASS_TABLE, PER_CLASS, REPORT, WORK_PAGE
from ray_jobs.output.runs import (
    Run,
    UnreadableRun,
    find_runs,
    no_output,
    open_output,
    outputs_below,
    read_load,
    read_work,
    stored_job,
)
from ray_jobs.report.classification_page import render
from ray_jobs.report.evaluation_page import render_evaluation
from ray_jobs.report.page_templates import render_page
from ray_jobs.report.report_data import gather
from ray_jobs.results.cell_result import ClassRow
from ray_jobs.results.evaluation_result import EvaluationResult
from ray_jobs.results.output_status import OutputReports, RunReport
from ray_jobs.results.run_work import RunWork

logger = logging.getLogger(__name__)


def ensure_report(store: Store, run: str, job: Job | None, *, keep: bool) -> str | None:
    """Write a run's report. A report never fails a job: whatever goes wrong is logged.

    The same run gives the same bytes, as long as its pictures can be read.

    Args:
        store: the output.
        run: the run's folder, with metrics, plan, failures and predictions in it.
        job: names the archive and the examples; None takes the job file beside the results.
        keep: leave a report that is there as it is.

    Returns:
        its URL; None if it could not be written.
    """
    return _ensure(store, run, lambda: _of_run(store, run, job), keep=keep)


def _ensure(store: Store, run: str, made: Callable[[], bytes], *, keep: bool = True) -> str | None:
    path = f"{run}/{REPORT}"
    try:
        if not (keep and store.exists(path)):
            store.put(path, made())
    except Exception as error:  # the boundary between the job and a page to look at
        reason = redacted(f"{type(error).__name__}: {error}")
        logger.warning("no report run=%s error=%s", run, reason, exc_info=logger.isEnabledFor(logging.DEBUG))
        return None
    return store.url(path)


def find_reports(
    output: str, storage: Storage = DEFAULT_STORAGE, *, job_file: str | None = None, pages: bool = False
) -> OutputReports:
    """Find the reports of an output; one that is missing is written.

    Args:
        output: any fsspec URL.
        storage: how S3 is reached.
        job_file: that names the output, which may have no run yet; None if the output was named by itself.
        pages: whether the newest complete classification of each job gets pages of its classes, and its report anew.

    Returns:
        every run that has finished, its path None if the report could not be written. Where there are none, `below`:
        outputs in folders below.

    Raises:
        JobError: nothing can be looked up there, or there is no output.
        StorageError: storage does not respond any more.
    """
    store = open_output(output, storage)
    runs = tuple(find_runs(store))
    if not runs and job_file is None:
        raise no_output(store)
    with_pages = _newest_classifications(store) if pages else frozenset()
    found = (_report_of(store, run, pages=isinstance(run, Run) and run.folder in with_pages) for run in runs)
    reports = tuple(report for report in found if report is not None)
    return OutputReports(output=store.root, reports=reports, below=() if reports else tuple(outputs_below(store)))


def _newest_classifications(store: Store) -> frozenset[str]:
    latest = read_latest(store)
    kinds = () if latest is None else latest.jobs.values()
    return frozenset(folders["classification"] for folders in kinds if "classification" in folders)


def _report_of(store: Store, run: Run | UnreadableRun, *, pages: bool) -> RunReport | None:
    """The report of a run that has finished; of one that cannot be read, that there is none."""
    if isinstance(run, UnreadableRun):
        logger.warning("no report run=%s error=%s", run.name, run.problem)
        return RunReport(run=run.name, path=None)
    if run.metrics is None:
        return None
    if run.kind == "classification" and not store.exists(f"{run.folder}/{WORK_PAGE}"):
        _write_work_page(store, run.folder, read_work(store, run.folder))
    if not pages:
        return RunReport(run=run.name, path=_ensure(store, run.folder, partial(_rendered, store, run)))
    path = _ensure(store, run.folder, partial(_with_class_pages, run), keep=False)
    classes = None if path is None else store.url(f"{run.folder}/{CLASS_TABLE}")
    return RunReport(run=run.name, path=path, classes=classes)


def _with_class_pages(run: Run) -> bytes:
    from ray_jobs.report.class_pages import write_class_pages

    contents = gather(run.store, run.folder, stored_job(run.store, run.folder))
    write_class_pages(run, contents)
    _write_work_page(run.store, run.folder, contents.work)
    return render(replace(contents, has_class_pages=True))


def _rendered(store: Store, run: Run) -> bytes:
    if isinstance(run.metrics, EvaluationResult):
        per_class = view_table(store, f"{run.folder}/{PER_CLASS}")
        return render_evaluation(run.metrics, [ClassRow.from_row(row) for row in per_class.to_pylist()])
    return _of_run(store, run.folder)


def _of_run(store: Store, run: str, job: Job | None = None) -> bytes:
    contents = gather(store, run, job or stored_job(store, run))
    _write_work_page(store, run, contents.work)
    return render(contents)


def _write_work_page(store: Store, run: str, work: RunWork | None) -> None:
    """Write the page of what the stages took, if that is known."""
    if work is not None:
        load = read_load(store, run)
        name = posixpath.basename(run)
        page = render_page("work.html", name=name, work=work, load=load and load.sentence())
        store.put(f"{run}/{WORK_PAGE}", page)
