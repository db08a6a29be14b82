"""Arguments and options that several commands take, and what is read from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ray_jobs.job_file.command_needs import NEEDS, JobCommand

if TYPE_CHECKING:
    from cluster import Storage
    from ray_jobs.job_file.sections import Job

JobFile = Annotated[Path, typer.Argument(help="Job file (TOML).", metavar="JOB.toml", show_default=False)]
Output = Annotated[
    str,
    typer.Argument(
        help="Job file, or the output it names (any fsspec URL).", metavar="JOB.toml|OUTPUT", show_default=False
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SECTION.KEY=VALUE", help="Override a key of the job file (TOML value or text); repeatable."
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="URL of the dashboard of a running Ray cluster, such as http://head:8265.",
        metavar="URL",
        show_default="RAY_API_SERVER_ADDRESS or RAY_ADDRESS in the environment",
        rich_help_panel="Cluster options",
    ),
]
JobId = Annotated[str, typer.Argument(help="Job ID, as `fewshot submit` printed it.", metavar="ID", show_default=False)]


def read_checked_job(path: str | Path, overrides: Sequence[str] | None, command: JobCommand) -> Job:
    """Read a job file and check everything it names.

    Args:
        path: the job file.
        overrides: "section.key=value", see `read_job`.
        command: the command that needs the job.

    Raises:
        JobError: with every problem of the file and of what it names.
    """
    from ray_jobs.job_file.reading import read_job, stop_if_any
    from ray_jobs.preflight import check

    job, problems = read_job(path, overrides or (), needs=NEEDS[command])
    stop_if_any([*problems, *check(job, NEEDS[command])])
    return job


def locate_output(name: str) -> tuple[str, Storage, str | None]:
    """Return the URL of an output, the storage settings to read it with, and the job file that names it, if any.

    Args:
        name: the path of a job file (*.toml), or the URL itself, which is read with the default settings.

    Raises:
        JobError: the job file or its [storage] section is wrong.
    """
    from cluster.storage.settings import DEFAULT_STORAGE
    from ray_jobs.drafting.draft_arguments import is_job_file
    from ray_jobs.errors import JobError
    from ray_jobs.job_file.reading import read_job, stop_if_any

    if not is_job_file(name):
        return name, DEFAULT_STORAGE, None
    job, problems = read_job(name)
    stop_if_any(problems)
    try:
        return job.job.output, job.storage.resolve(), name
    except (OSError, ValueError) as error:
        raise JobError([f"[storage]: {error}"]) from error


def job_name(job_file: str | None) -> str | None:
    """Return the name of the job in a job file; None without one."""
    if job_file is None:
        return None
    from ray_jobs.job_file.reading import read_job

    return read_job(job_file)[0].job.name
