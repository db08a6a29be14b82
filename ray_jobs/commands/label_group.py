"""Commands around labels: those that people give to images of an archive, and predictions for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ray_jobs.commands.arguments import job_name, locate_output
from ray_jobs.commands.command_group import CommandGroup, JsonResult, Program
from ray_jobs.export.format_table import FORMATS

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


_FORMATS = "; ".join(f"{each.name}, {each.summary}" for each in FORMATS)


def _complete_format(incomplete: str) -> list[tuple[str, str]]:
    """Return names and summaries of formats for shell completion."""
    return [(each.name, each.summary) for each in FORMATS if each.name.startswith(incomplete)]


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
    from ray_jobs.labels.labelled_archive import LabelledArchive

    reporter = Reporter()
    place, storage, job_file = locate_output(output)
    with reporter.waiting("reading the table"):
        answers, unanswered = read_answers(table, storage)
    with reporter.waiting("opening the archive"):
        archive = LabelledArchive.open(place, storage, job=job_name(job_file))
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
    from ray_jobs.inputs.class_warnings import first_few
    from ray_jobs.labels.label_table import labels_table
    from ray_jobs.labels.labelled_archive import LabelledArchive
    from ray_jobs.output.new_files import write_new_table
    from ray_jobs.report.markup import plural

    reporter = Reporter()
    with reporter.waiting("reading the ledger"):
        place, storage, job_file = locate_output(output)
        archive = LabelledArchive.open(place, storage, job=job_name(job_file))
        current = archive.ledger.current()
    events = current.of_archive(archive.source.identity)
    write_new_table(table, labels_table(events), option="TABLE", job=archive.job, output=archive.store)
    disputed = sorted(image.image for image in current.disputed if image.archive == archive.source.identity)
    reporter.say(f"wrote {plural(len(events), 'label')} to {table}")
    if disputed:
        reporter.say(f"on {len(disputed)} of them people disagree: {first_few(disputed)}; the latest answer counts")
    return {"table": str(table), "labels": len(events), "disputed": len(disputed), "undone": current.undone}


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

    place, storage, job_file = locate_output(output)
    reporter = Reporter()
    return start_review(
        place,
        storage,
        reporter,
        job=job_name(job_file),
        screen=screen,
        against=against,
        by=by,
        size=size,
        port=port,
        opens_browser=opens_browser,
    ).to_json()


@commands.add(example="fewshot audit runs/groceries --n 300 --table audit.csv")
def audit(
    output: LabelledRun,
    images: Annotated[
        int | None,
        typer.Option(
            "--n", help="Images to draw; more continue the same draw.", show_default="those that were drawn, or 300"
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            help="CSV file to write the images to that have no answer yet, for labels import; it must not exist.",
            show_default="no table",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw: another one draws other images.")] = 0,
) -> JsonResult:
    """Estimate accuracy from a random sample that a person labels.

    The first call draws images of the newest run, and --table writes them with an empty column label. Fill it in, from
    the top, and import it with labels import; the answer unknown means none of the classes, skipped that you cannot
    say. The next call prints accuracy, error among the labels given, precision and recall of classes, their numbers,
    and thresholds for max_error.

    The intervals hold at every look: label as many as you like, look, go on. Images that the classifier learned from
    are left out. Without answers, no accuracy is printed.
    """
    from ray_jobs.audit import audit as run_audit
    from ray_jobs.audit import table_to_label
    from ray_jobs.commands.audit_tables import show_audit
    from ray_jobs.console.progress import Reporter
    from ray_jobs.output.new_files import write_new_table
    from ray_jobs.report.markup import plural

    reporter = Reporter()
    place, storage, job_file = locate_output(output)
    with reporter.waiting("reading predictions and labels"):
        done = run_audit(place, images, seed=seed, job=job_name(job_file), storage=storage)
    show_audit(reporter, done.result, output)
    if table is not None:
        data, rows = table_to_label(done)
        write_new_table(table, data, option="--table", job=done.archive.job, output=done.archive.store)
        if rows:
            reporter.say(
                f"wrote {plural(rows, 'image')} to label to {table}. Then: fewshot labels import {output} {table}"
            )
        else:
            reporter.say(f"every image of the draw has an answer, so {table} has no row")
    return done.result.to_json()


@commands.add(example="fewshot export runs/groceries --to csv --out labels.csv")
def export(
    run: LabelledRun,
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT", help=f"Format: {_FORMATS}.", autocompletion=_complete_format, show_default=False
        ),
    ],
    out: Annotated[
        str,
        typer.Option(metavar="PATH", help="File or folder to write, a path or any fsspec URL.", show_default=False),
    ],
    status: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STATUS,…",
            help="Export rows with this status: ok, abstained, unknown, unreadable. Repeatable.",
            show_default="all for csv and jsonl, all but unreadable for labelstudio, else ok",
        ),
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(help="Export rows with at least this score.", show_default="all")
    ] = None,
    class_: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="CLASS",
            help="Export rows of this class; those without a label count by their best guess. Repeatable.",
            show_default="all",
        ),
    ] = None,
    links: Annotated[
        bool, typer.Option("--links", help="Name images by their URLs instead of copying them, where formats can.")
    ] = False,
    labels: Annotated[
        bool,
        typer.Option("--labels", help="Let labels that people gave win over predictions; `labelled_by` says who."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
) -> JsonResult:
    """Export the predictions of a run for other programs.

    Of an output, its newest complete run is exported. Images are copied from the archive, whatever its form, where the
    format has them. The export appears as a whole at the end. The exit code is 1 if images could not be read.
    """
    from ray_jobs.console.progress import Reporter
    from ray_jobs.export.export_run import ExportRequest, export_messages, export_run
    from ray_jobs.export.filters import Filters

    reporter = Reporter()
    place, storage, job_file = locate_output(run)
    statuses = None if status is None else tuple(name.strip() for each in status for name in each.split(","))
    filters = Filters(statuses=statuses, classes=None if class_ is None else tuple(class_), min_score=min_score)
    request = ExportRequest(format=to, out=out, filters=filters, links=links, labels=labels, overwrite=overwrite)
    result = export_run(place, request, storage, reporter=reporter, job=job_name(job_file))
    for message in export_messages(result):
        reporter.say(message, style="yellow" if message.startswith("warning") else None)
    return result.to_json()


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
    place, storage, job_file = locate_output(output)
    with reporter.waiting("reading the features"):
        embedded, content = suggest_images(place, n, storage, job=job_name(job_file))
    result = store_list(embedded, content, csv)
    show_list(reporter, result, output)
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
    place, storage, job_file = locate_output(output)
    with reporter.waiting("reading the features"):
        embedded, content = search_images(place, query, n, storage, job=job_name(job_file))
    result = store_list(embedded, content, csv)
    show_list(reporter, result, output)
    return result.to_json()
