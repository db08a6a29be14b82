"""The runs of versions of a registry, the versions of runs, and which classes were renamed between two of them."""

from __future__ import annotations

import logging
import shlex
from contextlib import suppress

from cluster import Storage
from ray_jobs.errors import JobError
from ray_jobs.output.latest_runs import read_latest
from ray_jobs.output.layout import shard_of
from ray_jobs.output.runs import Run, find_runs, open_output, open_run
from ray_jobs.registry.journal import Journal, jobs_with_registry
from ray_jobs.registry.learned_labels import read_learned_labels, renames_between
from ray_jobs.registry.moves import Version
from ray_jobs.results.json_format import NewerFormatError

logger = logging.getLogger(__name__)


class NoRunError(JobError):
    """A version of a registry made no complete run."""


def find_run(place: str, storage: Storage, *, job: str | None = None, like: Run | None = None) -> Run:
    """Find the run that is meant.

    Args:
        place: folder of a run; an output: then its newest complete run; or an output, "@" and the number of a version
            of its registry: then the run that this version made.
        storage: how S3 is reached.
        job: of an output with several jobs, the name of the one that is meant.
        like: of several runs that a version made, the one that has most of the archive in common with this one.

    Raises:
        JobError: there is no such run or version, or there are several.
        StorageError: storage does not respond.
    """
    output, number = split_version(place)
    if number is None:
        return open_run(place, job=job, kind="classification", storage=storage)
    store = open_output(output, storage)
    known = jobs_with_registry(store)
    name = job or (known[0] if len(known) == 1 else None)
    if name not in known:
        has = f"has registries of the jobs {', '.join(known)}" if known else "has no registry"
        raise JobError([f"{store.root} {has}, so version {number} is not known: name the folder of a run"])
    return run_of_version(Journal(store, name), number, like=like)


def split_version(place: str) -> tuple[str, int | None]:
    """Return the output and the number of a version of "OUTPUT@NUMBER"; all of any other text, and None."""
    output, _, number = place.rpartition("@")
    is_number = number.isascii() and number.isdecimal() and bool(output)
    return (output, int(number)) if is_number else (place, None)


def run_of_version(journal: Journal, number: int, *, like: Run | None = None) -> Run:
    """Return the complete run that a version of a registry made.

    Args:
        journal: of the registry.
        number: of the version.
        like: of several runs (the archive changed, perhaps), take the one that has most shards in common with this one;
            None takes the newest of the job.

    Raises:
        JobError: there is no such version or run, or there are several and none is like `like` or the newest.
        StorageError: storage does not respond.
    """
    store, classifier = journal.store, journal.state().version(number).classifier
    runs = [run for run in find_runs(store) if isinstance(run, Run) and run.job == journal.job and run.is_complete]
    found = [run for run in runs if run.kind == "classification" and run.plan.classifier_name == classifier]
    if not found:
        problem = f"no complete run of the job {journal.job} in {store.root} was made by version {number}"
        raise NoRunError([f"{problem}. Only versions in production label the archive; name the folder of another run"])
    if like is not None:
        shards = {shard_of(part) for part in like.plan.predictions}
        return max(found, key=lambda run: (len(shards.intersection(map(shard_of, run.plan.predictions))), run.name))
    latest = read_latest(store)
    newest = None if latest is None else latest.jobs.get(journal.job, {}).get("classification")
    chosen = found if len(found) == 1 else [run for run in found if run.folder == newest]
    if not chosen:
        urls = ", ".join(run.url for run in found)
        raise JobError([f"version {number} made several runs; name the folder of one: {urls}"])
    return chosen[0]


def find_version(run: Run) -> Version | None:
    """Return the version of the job's registry that made a run, the newest of this classifier.

    Returns:
        None if the classifier was never registered, or the registry cannot be read: that is logged.

    Raises:
        NewerFormatError: a newer version of fewshot wrote the registry.
        StorageError: storage does not respond.
    """
    try:
        versions = Journal(run.store, run.job).state().versions.values()
    except NewerFormatError:
        raise
    except JobError as error:
        logger.warning("version of a run not known run=%s error=%s", run.name, error)
        return None
    return next((each for each in reversed(versions) if each.classifier == run.plan.classifier_name), None)


def renamed_classes(run: Run, former: Version | None, present: Version | None) -> dict[str, str]:
    """Return the present names of classes that were renamed between two versions, by the former names.

    They are told by the labels that the versions learned from: the same images under another name. None is known where
    a version is not, or its labels cannot be read any more.

    Args:
        run: of the output with the registry.
        former: a version.
        present: a later one.
    """
    with suppress(JobError):
        if former is not None and present is not None:
            folder = Journal(run.store, run.job).folder
            labels = [read_learned_labels(run.store, folder, version.labels) for version in (former, present)]
            return dict(renames_between(*labels))
    return {}


def undo_command(run: Run, former: Version | None, present: Version | None) -> str | None:
    """Return the command that puts the former version into production again.

    Args:
        run: of the output with the registry.
        former: a version.
        present: a later one.

    Returns:
        None if a version is not known, both are the same, or the classifier of the former one was removed.
    """
    if former is None or present is None or former.number == present.number:
        return None
    state = Journal(run.store, run.job).state()
    if former.number in state.pruned:
        return None
    place, job = shlex.quote(run.store.root), shlex.quote(run.job)
    moved = f"rollback {place} --to" if former.number in state.productions else f"promote {place}"
    return f'fewshot registry {moved} {former.number} --job {job} --why "…"'
