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
CsvTable = Annotated[
    Path | None,
    typer.Option("--csv", help="CSV file to write, too; it must not exist.", metavar="FILE", show_default=False),
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


@commands.add(example="fewshot suggest runs/groceries --n 40")
def suggest(
    output: LabelledRun,
    n: Annotated[int, typer.Option("--n", min=1, help="Images to suggest.")] = 60,
    csv: CsvTable = None,
) -> JsonResult:
    """Choose images to label next, and say why each was chosen.

    They cover the archive, weighted by the doubt about its predictions; some are the most probable ones of classes that
    have few labels. No two of them are near-duplicates, nor is one of an image that has a label: examples, and images
    in the ledger. Nothing has to be labelled yet: a job with class names alone is enough.

    The list is stored in the output, for fewshot review.
    """
    from ray_jobs.commands.list_tables import show_list
    from ray_jobs.console.progress import Reporter
    from ray_jobs.suggestion.stored_lists import store_list
    from ray_jobs.suggestion.suggest_images import suggest_images

    reporter = Reporter()
    place, storage, _ = locate_output(output)
    with reporter.waiting("reading the features"):
        embedded, content = suggest_images(place, n, storage)
    result = store_list(embedded, content, csv)
    show_list(reporter, result)
    return result.to_json()


@commands.add(example='fewshot search runs/groceries "a carton of oat milk" --n 20')
def search(
    output: LabelledRun,
    text: Annotated[
        str | None, typer.Argument(help="What to search for.", metavar="TEXT", show_default="--image")
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(help="Image file to search for, instead of a text.", metavar="FILE", show_default=False),
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Images to find.")] = 100,
    csv: CsvTable = None,
) -> JsonResult:
    """Find the images of the archive that are most like a text or an image.

    A text is put into the prompt templates of the job and embedded by its model, as the name of a class is. All
    features of the archive are read once and compared. Nothing has to be labelled yet: a job with class names alone is
    enough.

    The list is stored in the output, for fewshot review.
    """
    from ray_jobs.commands.list_tables import show_list
    from ray_jobs.console.progress import Reporter
    from ray_jobs.suggestion.query_features import Query
    from ray_jobs.suggestion.search_images import search_images
    from ray_jobs.suggestion.stored_lists import store_list

    reporter = Reporter()
    query = Query(text=text, image=image)
    place, storage, _ = locate_output(output)
    with reporter.waiting("reading the features"):
        embedded, content = search_images(place, query, n, storage)
    result = store_list(embedded, content, csv)
    show_list(reporter, result)
    return result.to_json()
