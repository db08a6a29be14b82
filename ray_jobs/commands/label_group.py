"""Commands around labels that people give to images of an archive."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ray_jobs.commands.arguments import locate_output
from ray_jobs.commands.command_group import CommandGroup, JsonResult, Program

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


@ledger_commands.add(name="import", example="fewshot labels import runs/groceries answers.csv")
def import_labels(
    output: LabelledRun,
    table: Annotated[
        str,
        typer.Argument(
            help="Table (.csv, .jsonl, .parquet) with the columns image, as the predictions have it, and label.",
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
    and probability. Rows without a label and an answer are passed over, and so are answers that the ledger has.

    The images are copied into the ledger, to be learned from with support.labels = true. The exit code is 1 if images
    are missing.
    """
    from ray_jobs.commands.output_tables import show_import
    from ray_jobs.console.progress import Reporter
    from ray_jobs.labels.label_ledger import user_name
    from ray_jobs.labels.label_table import import_answers, read_answers
    from ray_jobs.labels.labelled_archive import LabelledArchive

    reporter = Reporter()
    place, storage, _ = locate_output(output)
    with reporter.waiting("reading the table"):
        answers, unanswered = read_answers(table, storage)
    with reporter.waiting("opening the archive"):
        archive = LabelledArchive.open(place, storage)
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

    It has those of the archive of the newest run, or of the run that is named.
    """
    from ray_jobs.console.progress import Reporter
    from ray_jobs.errors import JobError
    from ray_jobs.labels.label_table import labels_table
    from ray_jobs.labels.labelled_archive import LabelledArchive

    reporter = Reporter()
    with reporter.waiting("reading the ledger"):
        place, storage, _ = locate_output(output)
        archive = LabelledArchive.open(place, storage)
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


@commands.add(example="fewshot review runs/groceries --screen least")
def review(
    output: LabelledRun,
    screen: Annotated[
        str | None,
        typer.Option(
            help="Screen to begin with: a class, a list of the output (a suggestion, a search, an audit), least, large,"
            " skipped or disagreements.",
            metavar="NAME",
            show_default="a page with all of them",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="Another run over the archive, for a screen of images on which the two disagree.",
            metavar="OUTPUT|RUN",
            show_default="none",
        ),
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Who gives the labels.", metavar="NAME", show_default="the user's name")
    ] = None,
    size: Annotated[int, typer.Option(help="Images of a screen.", min=4, max=48)] = 24,
    port: Annotated[
        int | None,
        typer.Option(
            help="Port of 127.0.0.1 to listen on.",
            metavar="PORT",
            min=0,
            max=65535,
            show_default="8377, or a free one where that is taken",
        ),
    ] = None,
    opens_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> JsonResult:
    """Label images of an archive in a browser, by keyboard.

    Prints the URL of a page on this machine. A screen shows images that were predicted to be of one class: Enter
    accepts them, keys mark and relabel the others. Every decision is stored in the ledger of labels of the output
    before the next screen is shown; support.labels = true learns from it. Ctrl-C ends the server.
    """
    from ray_jobs.console.progress import Reporter
    from ray_jobs.review.start import start_review

    place, storage, _ = locate_output(output)
    reporter = Reporter()
    return start_review(
        place,
        storage,
        reporter,
        screen=screen,
        against=against,
        by=by,
        size=size,
        port=port,
        opens_browser=opens_browser,
    ).to_json()
