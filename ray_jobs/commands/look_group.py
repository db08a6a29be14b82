"""Commands that show what has run and what there is to choose from.

In an output they change nothing but missing reports, and notes of what is damaged.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ray_jobs.commands.arguments import Address, Output, job_name, locate_output
from ray_jobs.commands.command_group import CommandGroup, JsonResult

if TYPE_CHECKING:
    from ray_jobs.output.runs import Run

commands = CommandGroup("Look")
_STATUS_OF_OUTPUT = "to see the progress of the runs in an output instead, name it: fewshot status OUTPUT"


def _complete_method(incomplete: str) -> list[tuple[str, str]]:
    """Return names and summaries of methods for shell completion."""
    from fewshot.methods.table import TABLE

    return [(info.name, info.summary) for info in TABLE if info.name.startswith(incomplete)]


@commands.add(example="fewshot status runs/groceries")
def status(
    output: Annotated[
        str | None,
        typer.Argument(
            help="Job file, or the output it names (any fsspec URL); with --address, the ID of a submitted job.",
            metavar="JOB.toml|OUTPUT|ID",
            show_default=False,
        ),
    ] = None,
    address: Address = None,
) -> JsonResult:
    """Show the progress of the runs in an output, or of submitted jobs.

    With an output, the progress is read from storage: no cluster has to be reachable. Without one, or with --address,
    the jobs of a Ray cluster are listed.
    """
    from ray_jobs.console.progress import Reporter

    reporter = Reporter()
    if output is None or address is not None:
        from ray_jobs.commands.output_tables import show_jobs
        from ray_jobs.errors import JobError
        from ray_jobs.submission import connect, list_jobs

        try:
            with reporter.waiting("connecting to the cluster"):
                jobs = list_jobs(connect(address), output)
        except JobError as error:
            raise JobError([*error.problems, *([_STATUS_OF_OUTPUT] if output is None else [])]) from None
        show_jobs(reporter, jobs)
        return jobs.to_json()
    from ray_jobs.commands.output_tables import show_status
    from ray_jobs.commands.status import read_status

    with reporter.waiting("reading the output"):
        place, storage, job_file = locate_output(output)
        result = read_status(place, storage, job_file=job_file)
    show_status(reporter, result)
    return result.to_json()


@commands.add(example="fewshot report runs/groceries")
def report(
    output: Output,
    open_: Annotated[bool, typer.Option("--open", help="Open the newest report in the browser.")] = False,
    pages: Annotated[
        bool, typer.Option("--pages", help="Write a page for each class, with its images, beside the newest report.")
    ] = False,
) -> JsonResult:
    """Print the paths of the HTML reports of an output, and write missing ones.

    With --pages, the newest complete run of each job also gets a table of its classes and pages with their most and
    least certain images, at most 12,000 in all.
    """
    from ray_jobs.commands.output_tables import open_newest, show_reports
    from ray_jobs.console.progress import Reporter
    from ray_jobs.report import find_reports

    reporter = Reporter()
    with reporter.waiting("reading the output"):
        place, storage, job_file = locate_output(output)
        result = find_reports(place, storage, job_file=job_file, pages=pages)
    show_reports(reporter, result)
    if open_:
        open_newest(result, reporter)
    return result.to_json()


@commands.add(example="fewshot churn runs/groceries@1 runs/groceries@2")
def churn(
    before: Annotated[
        str,
        typer.Argument(
            help="The earlier run: its folder; a job file or the output it names, for the newest run; or one of both"
            " with @ and the number of a version in the registry.",
            metavar="BEFORE",
            show_default=False,
        ),
    ],
    after: Annotated[
        str,
        typer.Argument(help="The later run, named likewise; it gets the page.", metavar="AFTER", show_default=False),
    ],
    renamed: Annotated[
        list[str] | None,
        typer.Option(
            "--renamed",
            help="Class with another name since, which is no change; repeatable.",
            metavar="OLD=NEW",
            show_default="those that the registry knows of",
        ),
    ] = None,
) -> JsonResult:
    """Compare two runs of an archive: which labels changed, with pictures.

    Counts the images that got another class, by pair of classes and by class, and writes churn.json and a page with
    pictures beside the later run. Labels that are withheld now or were before are counted apart, and so are images that
    only one of the runs has. Of changed images whose labels people gave, it says how many became right or wrong.
    """
    from ray_jobs.churn import churn_page, write_churn
    from ray_jobs.commands.churn_tables import renamed_pairs, show_churn
    from ray_jobs.console.progress import Reporter

    reporter = Reporter()
    present = _compared_run(after, None)
    former = _compared_run(before, present)
    pairs = renamed_pairs(renamed)
    with reporter.waiting("comparing predictions"):
        result = write_churn(former, present, renamed=pairs)
    show_churn(reporter, result, churn_page(present))
    return {**result.to_json(), "page": churn_page(present)}


def _compared_run(name: str, like: Run | None) -> Run:
    """Open the run that an argument means."""
    from ray_jobs.churn import find_run, split_version

    output, number = split_version(name)
    place, storage, job_file = locate_output(output)
    version = "" if number is None else f"@{number}"
    return find_run(f"{place}{version}", storage, job=job_name(job_file), like=like)


@commands.add(example="fewshot verify runs/groceries")
def verify(
    run: Annotated[
        str,
        typer.Argument(
            help="Job file, the output it names, or the folder of one run (any fsspec URL).",
            metavar="JOB.toml|OUTPUT|RUN",
            show_default=False,
        ),
    ],
) -> JsonResult:
    """Read all stored objects of runs, and list what is damaged or missing.

    Predictions, features, classifiers, adapters, metrics and reports are compared with the digests they were written
    with. Damage is noted with its run; the command that is printed with it then makes the damaged objects anew. The
    exit code is 1 if anything is damaged.
    """
    from ray_jobs.commands.output_tables import show_verification
    from ray_jobs.console.progress import Reporter
    from ray_jobs.verification.verify import verify as verify_objects

    reporter = Reporter()
    place, storage, job_file = locate_output(run)
    result = verify_objects(place, storage, reporter=reporter, job_file=job_file)
    show_verification(reporter, result)
    return result.to_json()


@commands.add(example="fewshot adapters runs/groceries drawing/")
def adapters(
    output: Output,
    folder: Annotated[str, typer.Argument(help="Folder to write the files to.", metavar="FOLDER", show_default=False)],
) -> JsonResult:
    """Write the trained adapters of an output as files for diffusers.

    Each class has a file. In Python, `pipe.load_lora_weights(FILE)` loads one into a pipeline of the same diffusion
    model, which then draws the class when the prompt is that of its training; the result has both.
    """
    from ray_jobs.commands.adapter_export import export_adapters
    from ray_jobs.console.progress import Reporter

    reporter = Reporter()
    with reporter.waiting("reading the adapters"):
        place, storage, _ = locate_output(output)
        written = export_adapters(place, folder, storage)
    reporter.say(f"wrote adapters of {len({each.label for each in written.adapters})} classes to {written.folder}")
    return asdict(written)


@commands.add(example="fewshot methods tip_adapter")
def methods(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Method to describe.", metavar="NAME", show_default="list all", autocompletion=_complete_method
        ),
    ] = None,
) -> JsonResult:
    """List the classification methods, or describe one.

    The description of a method has its source, and the type, default and meaning of each of its hyperparameters.
    """
    from ray_jobs.commands.catalogue import describe_method, list_methods
    from ray_jobs.commands.catalogue_tables import show_method, show_methods
    from ray_jobs.console.progress import Reporter

    reporter = Reporter()
    if name is None:
        listed = list_methods()
        show_methods(reporter, listed)
        return asdict(listed)
    method = describe_method(name)
    show_method(reporter, method)
    return asdict(method)


@commands.add_text(example="fewshot schema > job.schema.json")
def schema() -> None:
    """Print the JSON schema of job files.

    Editors complete and check job files with it: save it beside a job file, whose first line is then
    #:schema ./job.schema.json (for taplo, and Even Better TOML in VS Code).
    """
    import json

    from ray_jobs.job_file.schema import job_file_schema

    sys.stdout.write(json.dumps(job_file_schema(), indent=2) + "\n")


@commands.add(example="fewshot models ViT-H")
def models(
    containing: Annotated[
        str, typer.Argument(help="Part of the names to list, in any case.", metavar="NAME", show_default="all")
    ] = "",
) -> JsonResult:
    r"""List the backbones for \[clip] model, with their pretrained weights."""
    from ray_jobs.commands.catalogue import list_models
    from ray_jobs.commands.catalogue_tables import show_models
    from ray_jobs.console.progress import Reporter

    reporter = Reporter()
    with reporter.waiting("loading open_clip"):
        result = list_models(containing)
    show_models(reporter, result)
    return asdict(result)
