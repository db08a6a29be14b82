"""Commands that do a job's work on this machine, or show what it would take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewshot.evaluation.protocols import ProtocolName
from ray_jobs.commands.arguments import JobFile, Overrides, read_checked_job
from ray_jobs.commands.command_group import CommandGroup, JsonResult
from ray_jobs.commands.draft_options import (
    Archive,
    ExamplesArgument,
    ExamplesOption,
    JobOrArchive,
    NameOption,
    OutputOption,
    choose_job,
)

commands = CommandGroup("Run")
CHECKING = "checking the job file and the storage, models and files that it names"


@commands.add(example="fewshot demo --folder runs/demo", exit_codes=True)
def demo(
    folder: Annotated[Path, typer.Option(help="Folder for the demo's archive, job files and results.")] = Path(
        "runs/demo"
    ),
) -> JsonResult:
    """Classify the built-in demo archive on this machine.

    The archive has 285 emoji in one drawn style and six broken files; each class has two examples in other styles.
    Afterwards the folder holds job files to copy for your own images.
    """
    from ray_jobs.commands.classification_tables import show_demo
    from ray_jobs.commands.demo import run_demo
    from ray_jobs.console.progress import Reporter

    reporter = Reporter()
    result = run_demo(folder, reporter)
    show_demo(reporter, result)
    return result.to_json()


@commands.add(example="fewshot init photos examples --output runs/groceries")
def init(
    archive: Archive,
    examples: ExamplesArgument,
    output: OutputOption = None,
    name: NameOption = None,
    job: Annotated[Path, typer.Option(help="Job file to write.", metavar="JOB.toml")] = Path("job.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the job file if it exists.")] = False,
    set_: Overrides = None,
) -> JsonResult:
    """Write a commented job file for an archive and labelled examples.

    Shows the number of images and the examples of each class, and warns about examples that are in the archive as
    well, have two labels or cannot be read.
    """
    from ray_jobs.commands.init import write_draft
    from ray_jobs.commands.init_tables import show_draft
    from ray_jobs.console.progress import Reporter
    from ray_jobs.drafting.draft_arguments import DraftArguments

    reporter = Reporter()
    arguments = DraftArguments(
        archive=archive, examples=examples, output=output, name=name, overrides=tuple(set_ or ())
    )
    with reporter.waiting("looking at the archive and the examples"):
        result = write_draft(arguments, job, reporter, force=force)
    show_draft(reporter, result)
    return result.to_json()


@commands.add(example="fewshot plan job.toml --set support.shots=8")
def plan(
    job: JobOrArchive,
    examples: ExamplesOption = None,
    output: OutputOption = None,
    name: NameOption = None,
    set_: Overrides = None,
    probe: Annotated[
        bool, typer.Option(help="Time the backbone for a few seconds to estimate the duration of the run.")
    ] = True,
) -> JsonResult:
    """Show what a job would run, what is done already and what the rest costs.

    Nothing is run or written. The estimate is for this machine; --no-probe leaves it out. Without a job file, name an
    archive and its examples as for classify.
    """
    from ray_jobs.classification.plan import make_plan
    from ray_jobs.commands.classification_tables import show_plan
    from ray_jobs.console.progress import Reporter

    reporter = Reporter()
    with reporter.waiting(CHECKING):
        chosen = choose_job(job, examples=examples, output=output, name=name, overrides=set_ or ())
    with reporter.waiting("reading the examples, listing the archive, timing the models"):
        result = make_plan(chosen, probe=probe)
    show_plan(reporter, result)
    return result.to_json()


@commands.add(example="fewshot classify job.toml --set cluster.clip_workers=2", exit_codes=True)
def classify(
    job: JobOrArchive,
    examples: ExamplesOption = None,
    output: OutputOption = None,
    name: NameOption = None,
    set_: Overrides = None,
) -> JsonResult:
    """Label every image of an archive.

    Run the command again to resume an interrupted job, or after images or examples were added: finished work is never
    repeated.

    Without a job file: fewshot classify photos --examples examples. The job file of such a run is written into the
    output as job.toml.
    """
    from ray_jobs.classification.classify import classify as classify_archive
    from ray_jobs.commands.classification_tables import show_classification
    from ray_jobs.console.progress import Reporter

    reporter = Reporter()
    with reporter.waiting(CHECKING):
        chosen = choose_job(
            job,
            examples=examples,
            output=output,
            name=name,
            overrides=set_ or (),
            on_kept=lambda path: reporter.say(f"job file: {path}"),
        )
    result = classify_archive(chosen, reporter)
    show_classification(reporter, result)
    return result.to_json()


@commands.add(example="fewshot evaluate job.toml --set 'evaluate.shots=[1, 4]'", exit_codes=True)
def evaluate(
    job: JobFile,
    set_: Overrides = None,
    protocol: Annotated[
        ProtocolName | None,
        typer.Option(
            help="Classes with examples, and classes to choose from.", show_default="evaluate.protocol of the job file"
        ),
    ] = None,
) -> JsonResult:
    """Measure the accuracy of methods on a labelled data set.

    Every method is measured with every number of examples a class and every random draw of them that the job file
    lists; the result is one table. Run the command again to resume.
    """
    from ray_jobs.commands.evaluation_tables import show_evaluation
    from ray_jobs.console.progress import Reporter
    from ray_jobs.evaluation.evaluate import evaluate as evaluate_methods

    reporter = Reporter()
    overrides = [*(set_ or []), *([f"evaluate.protocol={protocol}"] if protocol else [])]
    with reporter.waiting(CHECKING):
        checked = read_checked_job(job, overrides, "evaluate")
    result = evaluate_methods(checked, reporter)
    show_evaluation(reporter, result)
    return result.to_json()
