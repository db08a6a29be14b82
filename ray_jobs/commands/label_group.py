"""Commands around labels that people give to images of an archive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ray_jobs.commands.arguments import locate_output
from ray_jobs.commands.command_group import CommandGroup, JsonResult, Program

if TYPE_CHECKING:
    from ray_jobs.labels.labelled_archive import LabelledArchive

commands = CommandGroup("Label")
ledger_commands = CommandGroup("Ledger of labels")
commands.app.add_typer(
    ledger_commands.app,
    cls=Program,
    name="labels",
    help="Import labels into the ledger of an output, and export them.",
    rich_help_panel="Label",
    no_args_is_help=True,
)

LabelledRun = Annotated[
    str,
    typer.Argument(
        help="Job file, the output it names, or the folder of one run (any fsspec URL).",
        metavar="JOB.toml|OUTPUT|RUN",
        show_default=False,
    ),
]


def open_labelled_archive(output: str) -> LabelledArchive:
    """Open the archive of a run.

    Args:
        output: see `LabelledRun`; a job file means the newest run of its job.

    Raises:
        JobError: the job file is wrong, or there is no such run.
        ClusterError: the archive is not where it was.
    """
    from ray_jobs.job_file.reading import read_job
    from ray_jobs.labels.labelled_archive import LabelledArchive

    place, storage, job_file = locate_output(output)
    job = None if job_file is None else read_job(job_file)[0].job.name
    return LabelledArchive.open(place, storage, job=job)


@ledger_commands.add(name="import", example="fewshot labels import runs/groceries answers.csv")
def import_labels(
    output: LabelledRun,
    table: Annotated[
        str,
        typer.Argument(
            help="Table (.csv, .tsv, .jsonl, .parquet) with the columns image, as the predictions have it, and label.",
            metavar="TABLE",
            show_default=False,
        ),
    ],
    by: Annotated[
        str | None, typer.Option(help="Who gave the labels.", metavar="NAME", show_default="the user's name")
    ] = None,
) -> JsonResult:
    """Write the labels of a table into the ledger of an output.

    Further columns are optional: answer (label, unknown, unreadable or skipped), by, reason, and, for an audit, draw
    and probability. Rows without a label and an answer are passed over, and so are answers that the ledger has; an
    answer that differs from it replaces it.

    The images are copied into the ledger, to be learned from with support.labels = true in the job file. The exit code
    is 1 if images are not among the predictions or cannot be read.
    """
    from ray_jobs.commands.output_tables import show_import
    from ray_jobs.console.progress import Reporter
    from ray_jobs.labels.label_ledger import user_name
    from ray_jobs.labels.label_table import import_answers, read_answers

    reporter = Reporter()
    with reporter.waiting("opening the archive"):
        archive = open_labelled_archive(output)
    with reporter.waiting("reading the table"):
        answers, unanswered = read_answers(table, archive.store.storage)
    with reporter.waiting("reading the images"):
        result = import_answers(archive, answers, by=by or user_name(), unanswered=unanswered)
    show_import(reporter, result)
    return result.to_json()


@ledger_commands.add(name="export", example="fewshot labels export runs/groceries labels.csv")
def export_labels(
    output: LabelledRun,
    table: Annotated[
        Path, typer.Argument(help="CSV file to write; it must not exist.", metavar="TABLE", show_default=False)
    ],
) -> JsonResult:
    """Write the labels in the ledger of an output as a table.

    It has those of the archive of the newest run, or of the run that is named, and can be imported elsewhere.
    """
    from ray_jobs.console.progress import Reporter
    from ray_jobs.errors import JobError
    from ray_jobs.labels.label_table import labels_table

    reporter = Reporter()
    with reporter.waiting("reading the ledger"):
        archive = open_labelled_archive(output)
        current = archive.ledger.current()
    events = current.of_archive(archive.source.identity)
    try:
        with table.open("xb") as file:
            file.write(labels_table(events))
    except FileExistsError as error:
        raise JobError([f"{table} exists; name another file, or remove it"]) from error
    except OSError as error:
        raise JobError([f"{table} cannot be written: {error}"]) from error
    reporter.say(f"wrote {len(events)} labels to {table}")
    return {"table": str(table), "labels": len(events), "disputed": len(current.disputed), "undone": current.undone}
