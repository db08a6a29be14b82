"""Check the stored objects of runs against their digests, and note damage beside each run."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from cluster import ClusterError, Retry, Storage, Store, UnitDone
from cluster.storage.settings import DEFAULT_STORAGE
from fewshot.digests import digest
from ray_jobs.console.progress import Reporter
from ray_jobs.output.damage_list import note_damage
from ray_jobs.output.latest_runs import LATEST
from ray_jobs.output.layout import EXAMPLES, JOB, METRICS, PLAN, PREDICTIONS, RUNS
from ray_jobs.output.runs import locate_run, no_output, open_output
from ray_jobs.output.stored_objects import SHARED_FOLDERS, is_shared, read_and_check
from ray_jobs.results.verification import DamagedObject, Verification, VerifiedRun
from ray_jobs.verification.ledger_check import check_ledger
from ray_jobs.verification.run_objects import RunObjects, list_objects

READERS = 8
"""Objects that are read at a time."""


def verify(
    place: str, storage: Storage = DEFAULT_STORAGE, *, reporter: Reporter, job_file: str | None = None
) -> Verification:
    """Read all objects of a run, or of the runs of an output, and of what they share.

    What is damaged is noted with a run; when that runs again, it is removed and made anew. The ledger of labels is
    read, too, and nothing of it is removed.

    Args:
        place: URL of an output, or of the folder of a run.
        storage: how S3 is reached.
        reporter: shows the progress.
        job_file: path of the job file of the output, for the commands that repair; None takes those of the runs.

    Raises:
        JobError: nothing can be looked up there.
        StorageError: storage does not respond.
    """
    store, folders = _locate(place, storage)
    if not folders:
        raise no_output(store)
    runs = [list_objects(store, folder) for folder in folders]
    shared = _shared(store, runs)
    digests = {path: expected for run in runs for path, expected in run.digests.items()}
    problems, size = dict[str, str](), 0
    for path, read, problem in _read(store, [*(path for run in runs for path in run.own), *shared], digests, reporter):
        size += read
        if problem is not None:
            problems[path] = problem
    problems = {path: problem for run in runs for path, problem in run.problems.items()} | problems
    damaged = _divide(runs, problems)
    for run in runs:
        _note(store, run, damaged[run.folder], reporter)
    return Verification(
        output=store.root,
        runs=tuple(_verified(store, run, damaged[run.folder], problems, job_file) for run in runs),
        shared=len(shared),
        bytes=size,
        ledger=check_ledger(store),
    )


def _locate(place: str, storage: Storage) -> tuple[Store, list[str]]:
    """Return the output, and the folders of the runs to verify."""
    output = open_output(place, storage)
    with suppress(FileNotFoundError):
        store, folder = locate_run(place, storage)
        if _is_run(store, folder):
            return _with_retries(store), [folder]
    return _with_retries(output), [folder for folder in output.folders(RUNS) if _is_run(output, folder)]


def _is_run(store: Store, folder: str) -> bool:
    return any(store.exists(f"{folder}/{name}") for name in (PLAN, METRICS))


def _with_retries(store: Store) -> Store:
    """Return the same store, with requests repeated for as long as in a job."""
    return replace(store, retry=Retry())


def _shared(store: Store, runs: Sequence[RunObjects]) -> list[str]:
    """Return what runs share, each object once: what they name, the features of examples, and what was trained.

    Where a plan cannot be read, all features, predictions and cells of the output may be those of its run.
    """
    named = [path for run in runs for path in run.shared if is_shared(path)]
    clips = sorted({posixpath.dirname(posixpath.dirname(path)) for path in named if path.startswith("features/")})
    folders = [folder for clip in clips for folder in store.folders(clip) if f"/{EXAMPLES}" in folder]
    folders += (
        ["features", PREDICTIONS, "evaluations"] if any(run.plan is None and not run.is_foreign for run in runs) else []
    )
    listed = [path for folder in (*folders, *SHARED_FOLDERS) for path in store.list(folder) if is_shared(path)]
    latest = [LATEST] if store.exists(LATEST) else []
    return list(dict.fromkeys([*named, *listed, *latest])) if runs else []


def _read(
    store: Store, paths: Sequence[str], digests: Mapping[str, str], reporter: Reporter
) -> Iterator[tuple[str, int, str | None]]:
    """Read objects, some at a time; yield each with its length, and what is wrong with it."""
    readers = ThreadPoolExecutor(READERS, thread_name_prefix="verify")
    try:
        with reporter.stage("verifying", len(paths), unit="objects") as on_event:
            found = readers.map(partial(_read_one, store, digests), paths)
            for path, (size, problem) in zip(paths, found, strict=True):
                on_event(UnitDone(path, 1, {}, 0.0))
                yield path, size, problem
    finally:
        readers.shutdown(cancel_futures=True)


def _read_one(store: Store, digests: Mapping[str, str], path: str) -> tuple[int, str | None]:
    """Return the length of an object, and what is wrong with it.

    `digests` has those of objects that hold none themselves.
    """
    if path not in digests:
        return read_and_check(store, path)
    data = store.get(path)
    return len(data), None if digest(data) == digests[path] else "its content does not match its digest"


def _divide(runs: Sequence[RunObjects], problems: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the damaged objects of each run; those that no run names belong to the first run that can be repeated."""
    owner: dict[str, str] = {}
    for run in runs:
        for path in run.paths:
            owner.setdefault(path, run.folder)
    found: dict[str, list[str]] = {run.folder: [] for run in runs}
    first = next((run.folder for run in runs if not run.is_foreign), runs[0].folder if runs else "")
    for path in sorted(problems):
        found[owner.get(path, first)].append(path)
    return found


def _note(store: Store, run: RunObjects, damaged: Sequence[str], reporter: Reporter) -> None:
    """Note with a run what is damaged in its output."""
    if run.is_foreign:
        return
    try:
        note_damage(store, run.folder, [path for path in damaged if not _is_elsewhere(path)])
    except (ClusterError, PermissionError) as error:
        advice = "delete the damaged objects before the job runs again"
        reporter.say(f"what is damaged could not be noted, so {advice}: {error}", style="yellow")


def _is_elsewhere(path: str) -> bool:
    return "://" in path or Path(path).is_absolute()


def _verified(
    store: Store, run: RunObjects, damaged: Sequence[str], problems: Mapping[str, str], job_file: str | None
) -> VerifiedRun:
    places = ((path if _is_elsewhere(path) else store.url(path), problems[path]) for path in damaged)
    return VerifiedRun(
        run=posixpath.basename(run.folder),
        objects=len(run.own),
        damaged=tuple(DamagedObject(path=place, problem=problem) for place, problem in places),
        repair=_repair(store, run, problems, job_file) if damaged and not run.is_foreign else None,
    )


def _repair(store: Store, run: RunObjects, problems: Mapping[str, str], job_file: str | None) -> str:
    """Return the command that makes a run's damaged objects anew, with "JOB.toml" for a job file that is not known."""
    command = "evaluate" if run.plan is not None and run.plan.kind == "evaluation" else "classify"
    kept = f"{run.folder}/{JOB}"
    if job_file is None and store.is_local and kept not in problems:
        job_file = store.url(kept)
    return f"fewshot {command} {shlex.quote(job_file or 'JOB.toml')}"
