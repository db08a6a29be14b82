"""The runs of an output, found in storage by a few requests each, however many parts they have."""

from __future__ import annotations

import posixpath
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa

from cluster import ClusterError, Lease, Storage, StorageError, Store, acquire_lease
from cluster.storage.error_classes import is_storage_error, is_transient
from cluster.storage.settings import DEFAULT_STORAGE
from fewshot.digests import PLACEHOLDER, DigestError, check_seal, seal
from ray_jobs.errors import JobError
from ray_jobs.job_file.reading import job_file_text
from ray_jobs.job_file.sections import Job, StorageSection
from ray_jobs.output.damage_list import first_and_count, remove_damaged
from ray_jobs.output.feature_parts import view_table
from ray_jobs.output.latest_runs import read_latest
from ray_jobs.output.layout import (
    INTERACTIVE,
    JOB,
    LEASE,
    LOAD,
    METRICS,
    PLAN,
    REPORT,
    RUNS,
    WORK,
    open_parent,
    present_parts,
)
from ray_jobs.output.prediction_table import PredictionTable
from ray_jobs.output.predictions import PredictionOrigin, prediction_schema
from ray_jobs.output.stored_objects import is_of_one_object
from ray_jobs.results.classification_metrics import ClassificationMetrics
from ray_jobs.results.evaluation_result import EvaluationResult
from ray_jobs.results.json_format import FormatError, OlderFormatError
from ray_jobs.results.run_plan import RunKind, RunPlan
from ray_jobs.results.run_work import RunWork, StageWork
from ray_jobs.results.stage_load import RunLoad, StageLoad

if TYPE_CHECKING:
    from ray_jobs.console.progress import Reporter

_MOST_LOOKED_INTO = 50
_FEW = 3

RunMetrics: TypeAlias = ClassificationMetrics | EvaluationResult


@dataclass(frozen=True)
class Run:
    """A run of a job, as it lies in storage. Open one with `open_run`; values are those of that moment.

    Attributes:
        store: the output that the run belongs to; of a folder that lies in no output, the folder around it.
        folder: the run's folder in the store.
        plan: what the run set out to do.
        metrics: what came out; None as long as the run has not finished.
    """

    store: Store
    folder: str
    plan: RunPlan
    metrics: RunMetrics | None

    def __repr__(self) -> str:
        """Return a line with what and where the run is."""
        state = "complete" if self.is_complete else "not complete"
        return f"Run({self.url!r}, {self.kind}, {state})"

    @property
    def name(self) -> str:
        """Name of the run: the job's name and a fingerprint of everything that determines the results."""
        return posixpath.basename(self.folder)

    @property
    def kind(self) -> RunKind:
        """Return "classification" for a labelled archive, "evaluation" for measured methods."""
        return self.plan.kind

    @property
    def job(self) -> str:
        """Name of the job."""
        return self.plan.job

    @property
    def url(self) -> str:
        """URL (of a local run, the absolute path) of the folder."""
        return self.store.url(self.folder)

    @property
    def output(self) -> str:
        """URL of the output that the run belongs to."""
        return self.url.removesuffix(f"/{RUNS}/{self.name}")

    @property
    def classifier(self) -> str | None:
        """URL of the folder of the classifier; None for an evaluation."""
        stored = self.plan.classifier
        is_elsewhere = stored is not None and ("://" in stored or posixpath.isabs(stored))
        return stored if stored is None or is_elsewhere else f"{self.output}/{stored}"

    @property
    def report(self) -> str:
        """URL of the report, a page for a browser, which is written when the run finishes."""
        return f"{self.url}/{REPORT}"

    @property
    def is_complete(self) -> bool:
        """Whether the run has finished without failures; if not, run the job again to resume it."""
        return self.metrics is not None and self.metrics.complete

    def predictions(self) -> PredictionTable:
        """Read all predictions, a row an image, in the order of the archive. For large ones, see `prediction_batches`.

        Returns:
            An Arrow table with `to_pandas` and `to_polars`. `label` is null where an image is abstained, unknown or
            unreadable, and `top_labels` has the best guess. Of a run that is not complete, the rows that are there.

        Raises:
            JobError: the run is an evaluation, or a part of it is damaged, or missing although the run is complete.
            StorageError: storage does not respond.
        """
        tables = list(self._parts())
        return PredictionTable(pa.concat_tables(tables) if tables else self.prediction_schema.empty_table())

    @property
    def prediction_schema(self) -> pa.Schema:
        """Columns of the predictions, and their types."""
        has_sets, is_tested = self.plan.label_set_error is not None, self.plan.unknown_rate is not None
        return prediction_schema(label_sets=has_sets, unknown=is_tested)

    def prediction_batches(self) -> Iterator[pa.RecordBatch]:
        """Read predictions part by part, which holds one shard of the archive in memory. Otherwise as `predictions`."""
        for table in self._parts():
            yield from table.to_batches()

    def image_url(self, image: str, source: str = "") -> str:
        """Return where an image of the archive lies, from the columns `image` and `source` of its row.

        Returns:
            see `ray_jobs.output.predictions.PredictionOrigin.image_url`.

        Raises:
            JobError: the run is an evaluation, or has no prediction yet.
        """
        if self._origin is None:
            raise JobError([f"{self.url} has no predictions that say where the archive lies. Run the job again."])
        return self._origin.image_url(image, source)

    @cached_property
    def _origin(self) -> PredictionOrigin | None:
        first = next(self._parts(), None)
        return None if first is None else PredictionOrigin.from_schema(first.schema)

    def _parts(self) -> Iterator[pa.Table]:
        for path in self.prediction_parts():
            yield view_table(self.store, path)

    def prediction_parts(self) -> list[str]:
        """Return the parts of predictions that are there, as paths in `store`, in the order of the archive.

        Runs share parts, so others may lie beside them, and files of other programs; they are left out.

        Raises:
            JobError: the run is an evaluation; or it is complete, and parts are missing.
        """
        if self.kind != "classification":
            raise JobError([f"{self.url} is an evaluation, which has a table (run.metrics.table) and no predictions."])
        own, present = self.plan.predictions, present_parts(self.store, self.plan.predictions)
        if len(present) < len(own) and self.is_complete:
            missing = sorted(set(own).difference(present))
            counts, example = f"{len(missing)} of {len(own)}", missing[0]
            problem = f"{self.url} is complete, but {counts} parts of predictions are missing, such as {example}"
            raise JobError([f"{problem}. Run the job again to make them anew."])
        return present

    def prediction_urls(self) -> list[str]:
        """Return the URLs (of a local run, the absolute paths) of `prediction_parts`, for DuckDB, pandas and others."""
        return [self.store.url(part) for part in self.prediction_parts()]


@dataclass(frozen=True, slots=True)
class UnreadableRun:
    """A run whose plan or metrics cannot be read.

    Attributes:
        name: of its folder.
        problem: what is wrong, and what to do.
    """

    name: str
    problem: str


def open_run(
    url: str, *, job: str | None = None, kind: RunKind | None = None, storage: Storage = DEFAULT_STORAGE
) -> Run:
    """Open a run.

    Args:
        url: folder of a run ("…/runs/NAME"), or an output: then its newest complete run; any fsspec URL or path.
        job: of an output that has several jobs, the name of the one that is meant.
        kind: of a job that was both run and evaluated, which of the two is meant.
        storage: how S3 is reached.

    Raises:
        JobError: there is no such run, there are several, or its files are damaged or from another version.
        StorageError: storage does not respond any more.
    """
    store = open_output(url, storage)
    with suppress(FileNotFoundError):
        if (found := read_run(*locate_run(url, storage))) is not None:
            return found
    folder = _latest_folder(store, job, kind)
    if (run := read_run(store, folder)) is None:
        raise JobError([f"{store.url(folder)} is gone, although latest.json names it. Run the job again."])
    return run


def locate_run(url: str, storage: Storage) -> tuple[Store, str]:
    """Return the output of a run's folder, and the folder in it; there may be no run.

    Of a folder that is not "…/runs/NAME", the folder around it takes the place of the output.

    Raises:
        FileNotFoundError: the URL is the root of a bucket or of a file system.
        StorageError: the URL carries a password.
    """
    parent, name = open_parent(url, storage)
    with suppress(FileNotFoundError):
        output, folder = open_parent(parent.root, storage)
        if folder == RUNS:
            return output, f"{RUNS}/{name}"
    return parent, name


def _latest_folder(store: Store, job: str | None, kind: RunKind | None) -> str:
    latest = read_latest(store)
    if latest is None:
        if next(find_runs(store), None) is None:
            raise no_output(store)
        raise JobError([f"no run is complete in {store.root}, and it is no folder of a run."])
    if job is not None and job not in latest.jobs:
        raise JobError([f"no run of the job {job!r} is complete in {store.root}. Known: {', '.join(latest.jobs)}."])
    found = {
        (name, run_kind): folder
        for name, kinds in latest.jobs.items()
        for run_kind, folder in kinds.items()
        if job in (None, name) and kind in (None, run_kind)
    }
    if not found:
        of_job = f" of the job {job!r}" if job is not None else ""
        raise JobError([f"no {kind}{of_job} is complete in {store.root}"])
    if len(found) > 1:
        runs = "; ".join(f"{name} ({run_kind}): {store.url(folder)}" for (name, run_kind), folder in found.items())
        raise JobError([f"{store.root} has several jobs. Name a job file or a run (in Python: job and kind): {runs}"])
    return next(iter(found.values()))


def remove_noted_damage(store: Store, folder: str, reporter: Reporter) -> None:
    """Remove what was found damaged in a run, before anything looks for what is there.

    Args:
        store: the output.
        folder: of the run.
        reporter: says what was damaged.
    """
    if damaged := remove_damaged(store, folder):
        reporter.say(f"damaged, made anew: {first_and_count(store, damaged)}", style="yellow")


def begin_run(store: Store, folder: str, job: Job, plan: RunPlan) -> None:
    """Write what a run sets out to do, so that it is found from now on.

    Args:
        store: the output.
        folder: of the run.
        job: its job file.
        plan: of the run.
    """
    store.put(f"{folder}/{JOB}", sealed_job_file(job))
    store.put(f"{folder}/{PLAN}", plan.to_bytes())


def sealed_job_file(job: Job) -> bytes:
    """Return the job file of a run, with its digest in a comment (see `fewshot.digests`)."""
    return seal(f"{job_file_text(job)}\n# Written by fewshot, content {PLACEHOLDER}\n".encode())


def stored_job(store: Store, run: str) -> Job:
    """Read the job file that was stored with a run.

    Raises:
        JobError: it is damaged.
    """
    data = store.get(f"{run}/{JOB}")
    try:
        check_seal(data)
    except DigestError as error:
        raise JobError([f"{store.url(run)}/{JOB} is damaged ({error}). Run the job again to write it anew."]) from error
    from pydantic import TypeAdapter

    return TypeAdapter(Job).validate_python(tomllib.loads(data.decode()))


@contextmanager
def acquire_run(store: Store, run: str, section: StorageSection, reporter: Reporter) -> Iterator[Lease]:
    """Hold the lease on a run, which belongs to one process at a time, and check it on every event of a stage.

    Half-written files that killed processes left in the run's folder are removed; stages do the same where they write.

    Args:
        store: the output.
        run: the run's folder.
        section: says after how many silent seconds a process counts as dead.
        reporter: of the stages, which stop when the lease is lost.

    Raises:
        LeaseHeldError: another process is at work on the run. Nothing was written.
        JobError: nothing can be written there, for a reason that waiting does not change.
    """

    def wait(owner: str) -> None:
        reporter.say(f"{store.url(run)} belongs to {owner}; checking whether it is alive")

    with ExitStack() as stack:
        try:
            store.check_writable()
            held = acquire_lease(store, f"{run}/{LEASE}", term_s=section.lease_s, on_wait=wait, note=reporter.note)
            lease = stack.enter_context(held)
        except OSError as error:
            cause = error.__cause__ or error
            if is_transient(cause) or not is_storage_error(cause):
                raise
            raise JobError([f"[job] output: {error}"]) from error
        stack.enter_context(reporter.checking(lease.check))
        for folder in (run, f"{run}/{LEASE}"):
            store.remove_stale_files(folder)
        yield lease


def open_output(output: str, storage: Storage) -> Store:
    """Open the store of an output to look into it.

    Raises:
        JobError: nothing can be looked up there.
    """
    try:
        store = Store(output, storage=storage, retry=INTERACTIVE)
        store.check_access()
    except (ClusterError, OSError) as error:
        raise JobError([str(error)]) from error
    return store


def find_runs(store: Store) -> Iterator[Run | UnreadableRun]:
    """List the runs of an output by name; one that cannot be read does not hide the others.

    Raises:
        StorageError: storage does not respond.
    """
    for folder in store.folders(RUNS):
        try:
            run = read_run(store, folder)
        except (FormatError, PermissionError) as error:
            yield UnreadableRun(posixpath.basename(folder), str(error))
        except StorageError as error:
            if not is_of_one_object(error):
                raise
            yield UnreadableRun(posixpath.basename(folder), str(error))
        else:
            if run is not None:
                yield run


def read_run(store: Store, folder: str) -> Run | None:
    """Read a run; None if there is none in the folder.

    Raises:
        FormatError: its plan or its metrics are damaged, or from another version.
    """
    plan = read_plan(store, folder)
    return None if plan is None else Run(store, folder, plan, read_metrics(store, folder, plan.kind))


def read_plan(store: Store, folder: str) -> RunPlan | None:
    """Return the plan of a run, None if there is none. Raises as `read_run`."""
    path = f"{folder}/{PLAN}"
    try:
        return RunPlan.from_json(store.get(path), where=store.url(path))
    except FileNotFoundError:
        return None
    except OlderFormatError as error:  # Most versions give runs other names, too.
        raise OlderFormatError(f"{error} If that makes a run of another name, remove {store.url(folder)}.") from error


def read_metrics(store: Store, folder: str, kind: RunKind) -> RunMetrics | None:
    """Return the metrics of a run, None if it has not finished. Raises as `read_run`."""
    path = f"{folder}/{METRICS}"
    document = ClassificationMetrics if kind == "classification" else EvaluationResult
    with suppress(FileNotFoundError):
        return document.from_json(store.get(path), where=store.url(path))
    return None


def record_load(store: Store, folder: str, load: StageLoad | None, reporter: Reporter) -> None:
    """Say what limited embedding, and note it with the run; what is there stays if nothing was embedded."""
    if load is not None:
        reporter.say(load.sentence())
        store.put(f"{folder}/{LOAD}", RunLoad(embedding=load).to_bytes())


def read_load(store: Store, folder: str) -> StageLoad | None:
    """Return how busy the stages of embedding were in a run; None if it embedded nothing, or that cannot be read."""
    path = f"{folder}/{LOAD}"
    with suppress(FileNotFoundError, FormatError):
        return RunLoad.from_json(store.get(path), where=store.url(path)).embedding
    return None


def record_work(store: Store, folder: str, stages: Sequence[StageWork]) -> None:
    """Add what the stages of a call took to the work of a run; nothing where no stage computed anything."""
    if stages:
        before = read_work(store, folder) or RunWork(calls=0, stages=())
        store.put(f"{folder}/{WORK}", before.with_call(stages).to_bytes())


def read_work(store: Store, folder: str) -> RunWork | None:
    """Return what the stages of a run took; None if that was not noted, or cannot be read."""
    path = f"{folder}/{WORK}"
    with suppress(FileNotFoundError, FormatError):
        return RunWork.from_json(store.get(path), where=store.url(path))
    return None


def outputs_below(store: Store) -> list[str]:
    """List outputs one or two levels down, which may have been meant where this folder was named as an output."""
    near = list(islice(store.folders(), _MOST_LOOKED_INTO))
    far = (folder for parent in near for folder in store.folders(parent))
    return [store.url(folder) for folder in islice(chain(near, far), _MOST_LOOKED_INTO) if _is_output(store, folder)]


def outputs_beside(store: Store) -> list[str]:
    """List outputs in the same folder whose names are like that of this one, the nearest first."""
    with suppress(FileNotFoundError, ClusterError, OSError):
        parent, name = open_parent(store.root, store.storage)
        near = get_close_matches(name, [folder for folder in parent.folders() if folder != name], n=_FEW, cutoff=0.6)
        return [parent.url(folder) for folder in near if _is_output(parent, folder)]
    return []


def no_output(store: Store) -> JobError:
    """Return the error for a place that is no output, with the outputs that may have been meant."""
    near = [*outputs_below(store), *outputs_beside(store)]
    meant = [f"there is an output at {place}" for place in near]
    return JobError([f"no job has run in {store.root}: there is no run below it", *meant])


def _is_output(store: Store, folder: str) -> bool:
    runs: Sequence[str] = list(islice(store.folders(f"{folder}/{RUNS}"), _FEW))
    return any(store.exists(f"{run}/{PLAN}") for run in runs)
