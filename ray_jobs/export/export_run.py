"""Export the predictions of a run to one of the formats."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Protocol, cast

from cluster import ClusterError, Storage, UnitDone
from cluster.storage.settings import DEFAULT_STORAGE
from ray_jobs.console.progress import Reporter
from ray_jobs.errors import JobError
from ray_jobs.export.destination import MANIFEST, Destination, open_destination
from ray_jobs.export.exported_rows import ExportedRows, with_default_statuses
from ray_jobs.export.filters import Filters
from ray_jobs.export.format_table import ExportFormat, find_format
from ray_jobs.export.json_lines import to_json
from ray_jobs.export.people_labels import read_answers, with_new_classes
from ray_jobs.inputs.archive import open_archive
from ray_jobs.job_file.sections import ArchiveSection, Job
from ray_jobs.output.layout import CARD, from_json, open_parent
from ray_jobs.output.new_files import check_new_place
from ray_jobs.output.runs import Run, open_run, stored_job
from ray_jobs.report.markup import plural
from ray_jobs.results.classification_metrics import ClassificationMetrics
from ray_jobs.results.export_result import ExportResult


class Writer(Protocol):
    """Writes a format: the function `write` of its module."""

    def __call__(self, rows: ExportedRows, out: Destination) -> None:
        """Write rows, which may be iterated once, with their images or without, and are never held all at once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What is exported, and where to.

    Attributes:
        format: name of the format, see `FORMATS`.
        out: path, or any fsspec URL.
        filters: that rows meet.
        links: name images by their URLs instead of copying them.
        labels: labels that people gave win over predictions.
        overwrite: replace an earlier export.
    """

    format: str
    out: str
    filters: Filters = field(default_factory=Filters)
    links: bool = False
    labels: bool = False
    overwrite: bool = False


def export_run(
    place: str,
    request: ExportRequest,
    storage: Storage = DEFAULT_STORAGE,
    *,
    reporter: Reporter,
    job: str | None = None,
) -> ExportResult:
    """Export the predictions of a run.

    Args:
        place: folder of the run, or an output: then its newest complete run; any fsspec URL.
        request: what is exported, and where to.
        storage: how S3 is reached.
        reporter: shows the progress.
        job: of an output that has several jobs, the name of the one that is meant.

    Returns:
        what was written; nothing is left of an export that fails.

    Raises:
        JobError: there is no such run, it has no predictions, or nothing can be written there.
        UnknownNameError: there is no such format, status or class.
        ClusterError: storage does not respond, or the archive cannot be read.
    """
    kind = find_format(request.format)
    _check(request, kind)
    with reporter.waiting("reading the output"):
        run = open_run(place, job=job, kind="classification", storage=storage)
        stored = stored_job(run.store, run.folder)
        check_new_place("--out", request.out, job=stored, output=run.store, is_folder=kind.is_folder)
        parts = run.prediction_parts()
        answers = read_answers(run, storage) if request.labels else None
        classes = with_new_classes(class_names(run), answers or {})
        request.filters.check(classes)
        archive = _archive(run, stored) if kind.images != "unread" and not request.links else None
    total = None if run.plan.archive is None else run.plan.archive.images
    with (
        open_destination(request.out, storage, is_folder=kind.is_folder, overwrite=request.overwrite) as out,
        reporter.stage("exporting", total, at_first="reading the archive") as on_event,
    ):
        rows = ExportedRows(
            run=run,
            parts=parts,
            classes=classes,
            filters=with_default_statuses(request.filters, kind.statuses),
            source=None if archive is None else partial(open_archive, archive, storage),
            links=request.links,
            answers=answers,
            on_rows=lambda part, rows: on_event(UnitDone(part, rows, {}, 0.0)),
        )
        _writer(kind)(rows, out)
        result = _result(rows, kind, out.place)
        if kind.is_folder:
            with out.open(MANIFEST) as file:
                file.write(to_json(result.to_json()) + b"\n")
    return result


def _writer(kind: ExportFormat) -> Writer:
    """Import the module of a format, and return what writes it."""
    return cast(Writer, import_module(f"{__package__}.{kind.module}").write)


def _check(request: ExportRequest, kind: ExportFormat) -> None:
    """Raise JobError if the format has no links."""
    if request.links and not kind.has_links:
        raise JobError([f"--links: {kind.name} has no links to images; leave it out"])


def class_names(run: Run) -> tuple[str, ...]:
    """Return the classes of a run in label order: of its classifier's card; where that is gone, those it predicted.

    Raises:
        JobError: neither is there.
    """
    if (folder := run.plan.classifier) is not None:
        with suppress(ClusterError, OSError, KeyError, TypeError, ValueError, RecursionError):
            store, name = open_parent(_url(run, folder), run.store.storage)
            return tuple(map(str, from_json(store.get(f"{name}/{CARD}"))["classes"]))
    if isinstance(run.metrics, ClassificationMetrics):
        return tuple(sorted(run.metrics.labels))
    raise JobError([f"the classifier of {run.url} is gone, which names its classes. Run the job again."])


def _url(run: Run, folder: str) -> str:
    return folder if "://" in folder or posixpath.isabs(folder) else f"{run.output}/{folder}"


def _archive(run: Run, job: Job) -> ArchiveSection:
    """Return the archive of a run. Raises JobError if its job file names none."""
    if job.archive is None:
        raise JobError([f"the job file of {run.url} names no archive to read images from"])
    return job.archive


def _result(rows: ExportedRows, kind: ExportFormat, place: str) -> ExportResult:
    counts = rows.counts
    return ExportResult(
        format=kind.name,
        path=place,
        run=rows.run.url,
        rows=counts.rows,
        skipped=dict(counts.skipped),
        unreadable=counts.unreadable,
        unreadable_such_as=tuple(counts.such_as),
        formulas=counts.formulas,
        run_complete=rows.run.is_complete,
    )


def export_messages(result: ExportResult) -> Sequence[str]:
    """Return what there is to say about an export: what it has, what it lacks, and how to load it."""
    skipped = ", ".join(f"{count:,} by {name.replace('_', '-')}" for name, count in result.skipped.items())
    lines = [f"wrote {plural(result.rows, 'row')} to {result.path}" + (f"; skipped {skipped}" if skipped else "")]
    if result.unreadable:
        such_as = "; ".join(result.unreadable_such_as)
        found = plural(result.unreadable, "image could not be read and is", "images could not be read and are")
        lines.append(f"warning: {found} not there, such as {such_as}")
    if result.formulas:
        count = f"{plural(result.formulas, 'text begins', 'texts begin')} like formulas"
        lines.append(f"warning: {count}: in a spreadsheet, import the columns as text")
    if not result.rows:
        lines.append("warning: no row meets the filters")
    if not result.run_complete:
        lines.append("warning: the run is not complete; run its job again, then export again")
    return [*lines, f"load it: {find_format(result.format).loading}"] if result.rows else lines
