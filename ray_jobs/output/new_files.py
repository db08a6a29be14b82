"""Files that commands write where a user says: never among the images that a job reads, or among stored results."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from pathlib import Path

from cluster import Store
from cluster.errors import SourceError
from cluster.records import archive_folder
from cluster.records.location import Location
from cluster.storage.settings import S3_SCHEMES
from ray_jobs.errors import JobError
from ray_jobs.job_file.sections import Job
from ray_jobs.output.latest_runs import LATEST
from ray_jobs.output.layout import JOB
from ray_jobs.output.stored_objects import KEPT_FOLDERS


def lies_inside(place: str, folder: str) -> bool:
    """Return whether a path or URL is this folder or lies below it, however the two are written.

    A text that is no place lies nowhere: its own check reports it.
    """
    try:
        inner, outer = real_place(place), real_place(folder)
    except SourceError:
        return False
    return f"{inner}/".startswith(f"{outer.rstrip('/')}/")


def real_place(uri: str) -> str:
    """Return one name for a place, however it is written; a local one without the symbolic links on the way to it.

    Raises:
        SourceError: the text cannot be a path.
    """
    place = Location.parse(uri).redacted
    if "://" not in place:
        return os.path.realpath(place)
    scheme, _, path = place.partition("://")
    return posixpath.normpath(f"{'s3' if scheme in S3_SCHEMES else scheme}://{path}")


def check_new_place(option: str, place: str, *, job: Job, output: Store, is_folder: bool = False) -> None:
    """Check that a file or folder may be written: not in what a job reads, nor where its output keeps results.

    Args:
        option: of the command, for errors.
        place: path or URL to write to.
        job: whose archive and examples are spared.
        output: of the job.
        is_folder: whether a folder is written, which takes the place of an earlier one.

    Raises:
        JobError: it lies in one of these, or, of a folder, one of these lies in it.
    """
    for what, folder in (*_inputs(job, output), *_kept(output)):
        problem = None
        if lies_inside(place, folder):
            problem = f"lies in {what} ({folder}), and would be taken for a part of it"
        elif is_folder and lies_inside(folder, place):
            problem = f"holds {what} ({folder}), which it would replace"
        if problem is not None:
            raise JobError([f"{option}: {place} {problem}; name a place outside"])


def _inputs(job: Job, output: Store) -> Iterator[tuple[str, str]]:
    """What a job reads, in words, and the folder or file that it is."""
    archive, support = job.archive, job.support
    if archive is not None:
        yield "the archive", archive_folder(archive.uri, output.storage)
        if archive.labels is not None:
            yield "the given labels", archive.labels
    if support is not None:
        yield "the examples", archive_folder(support.uri, output.storage)
        if support.validation is not None:
            yield "the images to validate with", archive_folder(support.validation, output.storage)
        if isinstance(support.labels, str):
            yield "the ledger of labels", support.labels


def _kept(output: Store) -> Iterator[tuple[str, str]]:
    return (("what the output keeps", output.url(name)) for name in (*KEPT_FOLDERS, LATEST, JOB))


def write_new_table(path: Path, data: bytes, *, option: str, job: Job, output: Store) -> None:
    """Write a table to a file of this machine that does not exist yet.

    Args:
        path: of the file.
        data: the table.
        option: of the command, for errors.
        job: as in `check_new_place`.
        output: likewise.

    Raises:
        JobError: it does, it cannot be written, or must not be written there.
    """
    check_new_place(option, str(path), job=job, output=output)
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError as error:
        raise JobError([f"{path} exists; name another file, or remove it"]) from error
    except OSError as error:
        raise JobError([f"{path} cannot be written: {error}"]) from error
