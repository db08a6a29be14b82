"""Arguments that stand for a job file in `init`, `classify` and `plan`, and the job that they name."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ray_jobs.commands.arguments import read_checked_job

if TYPE_CHECKING:
    from ray_jobs.job_file.sections import Job

_PANEL = "Options without a job file"
_EXAMPLES_HELP = "Labelled examples: a folder for each class, a table (.csv, .parquet, .jsonl) or a splits.json."

Archive = Annotated[
    str,
    typer.Argument(
        help="Images to classify: a folder, an archive file or a URL.", metavar="ARCHIVE", show_default=False
    ),
]
JobOrArchive = Annotated[
    str,
    typer.Argument(
        help="Job file (*.toml); or, with --examples, the images to classify: a folder, an archive file or a URL.",
        metavar="JOB.toml|ARCHIVE",
        show_default=False,
    ),
]
ExamplesArgument = Annotated[str, typer.Argument(help=_EXAMPLES_HELP, metavar="EXAMPLES", show_default=False)]
ExamplesOption = Annotated[
    str | None,
    typer.Option("--examples", help=_EXAMPLES_HELP, show_default=False, rich_help_panel=_PANEL),
]
OutputOption = Annotated[
    str | None,
    typer.Option("--output", help="Folder or URL for results.", show_default="runs/NAME", rich_help_panel=_PANEL),
]
NameOption = Annotated[
    str | None,
    typer.Option("--name", help="Name of the job.", show_default="the archive's name", rich_help_panel=_PANEL),
]


def choose_job(
    source: str,
    *,
    examples: str | None,
    output: str | None,
    name: str | None,
    overrides: Sequence[str],
    on_kept: Callable[[str], None] | None = None,
) -> Job:
    """Return the job that the arguments name, checked: that of a job file, or one that is drafted.

    Args:
        source: a job file (*.toml), or an archive.
        examples: of a drafted job; None with a job file.
        output: of a drafted job; None takes the default.
        name: of a drafted job; None takes the default.
        overrides: "section.key=value", see `read_job`.
        on_kept: called with where the job file of a drafted job was written; None writes none.

    Raises:
        JobError: the arguments contradict each other, or with every problem of the job.
        ClusterError: storage does not answer.
    """
    from ray_jobs.drafting.draft_arguments import DraftArguments, is_job_file
    from ray_jobs.errors import JobError
    from ray_jobs.job_file.reading import stop_if_any

    if is_job_file(source):
        options = {"--examples": examples, "--output": output, "--name": name}
        stop_if_any([_refusal(source, option) for option, value in options.items() if value is not None])
        return read_checked_job(source, overrides, "classify")
    if examples is None:
        raise JobError([_no_examples(source)])

    from ray_jobs.drafting.draft import draft_job
    from ray_jobs.drafting.job_copy import keep_job_file

    draft = draft_job(
        DraftArguments(
            archive=source,
            examples=examples,
            output=output,
            name=name,
            overrides=overrides,
            examples_option="--examples",
        )
    )
    if on_kept is not None:
        on_kept(keep_job_file(draft))
    return draft.job


_KEYS = {"--examples": "support.uri", "--output": "job.output", "--name": "job.name"}


def _refusal(job_file: str, option: str) -> str:
    return f"{option}: {job_file} is a job file and says this itself; override it with --set {_KEYS[option]}=VALUE"


def _no_examples(source: str) -> str:
    return (
        f"{source} is no job file (*.toml). To classify an archive, add its labelled examples: "
        f"fewshot classify {shlex.quote(source)} --examples EXAMPLES"
    )
