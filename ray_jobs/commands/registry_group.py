"""Commands around the registry of a job: its versions, which one is in production, and every move."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ray_jobs.commands.arguments import JobFile, Output, Overrides, job_name, locate_output, read_checked_job
from ray_jobs.commands.command_group import CommandGroup, Continued, JsonResult, Program

if TYPE_CHECKING:
    from ray_jobs.registry.journal import Journal
    from ray_jobs.results.registry_results import RegistryMove, RetrainResult
    from ray_jobs.retraining.turn_facts import Acceptance

commands = CommandGroup("Retrain")
registry_commands = CommandGroup("Registry")
commands.app.add_typer(
    registry_commands.app,
    cls=Program,
    name="registry",
    help="List versions of a job's classifier, compare them, promote one or roll back.",
    rich_help_panel="Retrain",
    no_args_is_help=True,
)

Job = Annotated[
    str | None,
    typer.Option(
        "--job",
        help="Name of the job.",
        metavar="NAME",
        show_default="that of the job file, or the only one that has a registry",
    ),
]


def _number(text: str) -> int:
    if text.isascii() and text.isdecimal() and int(text) > 0:
        return int(text)
    raise typer.BadParameter(
        f"expected the number of a version, such as 3, got {text!r}; fewshot registry list has all"
    )


Number = Annotated[
    int, typer.Argument(help="Number of the version.", metavar="VERSION", parser=_number, show_default=False)
]


def _reason(text: str) -> str:
    if not text.strip():
        raise typer.BadParameter("expected a reason, in words that still say something in a year")
    return text.strip()


Why = Annotated[
    str,
    typer.Option("--why", help="Reason, for the journal.", metavar="TEXT", show_default=False, callback=_reason),
]
By = Annotated[
    str | None, typer.Option(help="Who does it, for the journal.", metavar="NAME", show_default="the user's name")
]


@commands.add(example="fewshot retrain job.toml --set retrain.policy=superior", exit_codes=True)
def retrain(
    job: JobFile,
    set_: Overrides = None,
    accept_labels: Annotated[
        bool, typer.Option("--accept-labels", help="Learn from labels that would be refused, too.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Accept all labels, and promote what is trained without asking the gate.")
    ] = False,
    by: By = None,
) -> JsonResult:
    """Train on new labels, and put the new version into production if it may go.

    One turn of a loop that can run every night: it finds out which labels changed, trains if they did, compares the new
    version with production on labels that neither learned from, promotes it, rejects it or waits, and labels the
    archive with what is in production. Without any change it does nothing.

    Labels that contradict production too much are refused: nothing learns from them, and their classes are named.
    Every move is in the journal: fewshot registry list. Run the command again to resume.
    """
    acceptance: Acceptance = "force" if force else "labels" if accept_labels else "gate"
    return _take_turn(job, set_, by, acceptance).to_json()


@commands.add(example="fewshot drift job.toml --webhook https://example.org/alarms")
def drift(
    job: JobFile,
    set_: Overrides = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Take the archive as it is now for the new reference, after an alarm.")
    ] = False,
    webhook: Annotated[
        str | None,
        typer.Option(
            help="URL that gets the result of an alarm as JSON, or $NAME of a variable that has it.",
            metavar="URL",
            show_default="drift.webhook of the job file",
        ),
    ] = None,
    by: By = None,
) -> JsonResult | Continued:
    """Compare new images with those at promotion, and raise an alarm.

    Images of the newest run that came since the classifier was promoted are compared with a sample of those that were
    there: by their features, predicted classes and withheld labels. Nothing is embedded. A run that was compared is not
    compared again; the first check keeps the reference if there is none.

    The exit code is 3 on an alarm, unless drift.on_alarm says otherwise. With "retrain" it is that of the turn, which
    is taken after the result is written.
    """
    from ray_jobs.commands.registry_tables import show_drift
    from ray_jobs.console.progress import Reporter
    from ray_jobs.drift.report_drift import run_drift
    from ray_jobs.job_file.reading import read_job, stop_if_any

    reporter = Reporter()
    checked, problems = read_job(job, set_ or ())
    stop_if_any(problems)
    with reporter.waiting("comparing new images with the reference"):
        result = run_drift(checked, accept=accept, webhook=webhook)
    show_drift(reporter, result)
    if result.alarm and checked.drift is not None and checked.drift.on_alarm == "retrain":
        overrides = [*(set_ or ()), "classifier.archive_sample=renew"]
        return Continued(result.to_json(), lambda: _take_turn(job, overrides, by).to_json())
    return result.to_json()


def _take_turn(
    job: Path, overrides: list[str] | None, by: str | None, acceptance: Acceptance = "gate"
) -> RetrainResult:
    """Take a turn, and show what it did."""
    from ray_jobs.commands.registry_tables import show_turn
    from ray_jobs.commands.run_group import CHECKING
    from ray_jobs.console.progress import Reporter
    from ray_jobs.labels.label_ledger import user_name
    from ray_jobs.retraining.retrain import retrain as take_turn
    from ray_jobs.retraining.retrain import rules_of

    reporter = Reporter()
    with reporter.waiting(CHECKING):
        checked = read_checked_job(job, overrides, "classify")
    turn = take_turn(checked, reporter, by=by or user_name(), acceptance=acceptance)
    result = turn.result(checked.job.name, rules_of(checked))
    show_turn(reporter, result)
    return result


@registry_commands.add(name="list", example="fewshot registry list runs/groceries")
def list_versions(output: Output, job: Job = None) -> JsonResult:
    """List all versions of a job's classifier.

    `fewshot models` lists the backbones instead.
    """
    from ray_jobs.commands.registry_tables import show_versions
    from ray_jobs.console.progress import Reporter
    from ray_jobs.registry.inspection import list_versions as list_all

    result = list_all(_journal(output, job))
    show_versions(Reporter(), result)
    return result.to_json()


@registry_commands.add(example="fewshot registry show runs/groceries 3")
def show(output: Output, version: Number, job: Job = None) -> JsonResult:
    """Show what a version learned from, and every move that concerns it."""
    from ray_jobs.commands.registry_tables import show_version
    from ray_jobs.console.progress import Reporter
    from ray_jobs.registry.inspection import describe_version

    result = describe_version(_journal(output, job), version)
    show_version(Reporter(), result)
    return result.to_json()


@registry_commands.add(example="fewshot registry diff runs/groceries 2 3")
def diff(
    output: Output,
    before: Number,
    after: Annotated[
        int, typer.Argument(help="Number of the other one.", metavar="OTHER", parser=_number, show_default=False)
    ],
    job: Job = None,
) -> JsonResult:
    """Compare two versions: their labels, classes and settings.

    Labels are compared by the contents of images, so files that were moved or renamed are no difference.
    """
    from ray_jobs.commands.registry_tables import show_diff
    from ray_jobs.console.progress import Reporter
    from ray_jobs.registry.inspection import diff_versions

    result = diff_versions(_journal(output, job), before, after)
    show_diff(Reporter(), result)
    return result.to_json()


@registry_commands.add(example='fewshot registry promote runs/groceries 3 --why "checked by hand"')
def promote(output: Output, version: Number, why: Why, job: Job = None, by: By = None) -> JsonResult:
    """Put a version into production by hand.

    The journal says that it was forced, by whom, and why. One that is in production and watched is watched no longer.
    Predictions are made anew by the next `fewshot retrain`.
    """
    from ray_jobs.labels.label_ledger import user_name
    from ray_jobs.registry.changes import promote as move

    return _shown(move(_journal(output, job), version, by=by or user_name(), why=why))


@registry_commands.add(example="fewshot registry rollback runs/groceries --why harm")
def rollback(
    output: Output,
    why: Why,
    to: Annotated[
        int | None,
        typer.Option(
            "--to",
            help="Number of a version that was in production.",
            metavar="VERSION",
            parser=_number,
            show_default="the one before the present one",
        ),
    ] = None,
    job: Job = None,
    by: By = None,
) -> JsonResult:
    """Put an earlier version into production again.

    Typed again, it moves nothing: to go back further, name the version with --to.

    A retraining that is under way notices it and promotes nothing.
    """
    from ray_jobs.labels.label_ledger import user_name
    from ray_jobs.registry.changes import roll_back

    return _shown(roll_back(_journal(output, job), to, by=by or user_name(), why=why))


@registry_commands.add(example='fewshot registry reject runs/groceries 3 --why "waited long enough"')
def reject(output: Output, version: Number, why: Why, job: Job = None, by: By = None) -> JsonResult:
    """Drop a candidate by hand, without waiting for evidence.

    The journal says that it was forced, by whom, and why. Its labels are not learned from again until one changes.
    """
    from ray_jobs.labels.label_ledger import user_name
    from ray_jobs.registry.changes import reject as move

    return _shown(move(_journal(output, job), version, by=by or user_name(), why=why))


@registry_commands.add(example="fewshot registry prune runs/groceries --keep 5 --dry-run")
def prune(
    output: Output,
    keep: Annotated[int, typer.Option(min=1, help="Versions that were in production to keep.")] = 5,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed, and change nothing.")] = False,
    why: Annotated[str, typer.Option(help="Reason, for the journal.", metavar="TEXT")] = "no longer needed",
    job: Job = None,
    by: By = None,
) -> JsonResult:
    """Remove stored classifiers that nothing needs.

    Production, the candidate, what a rollback restores, the newest versions that were in production, and classifiers of
    runs and other registries of the output stay. So do the entries of the journal, and the labels of every version.
    """
    from ray_jobs.commands.registry_tables import show_pruning
    from ray_jobs.console.progress import Reporter
    from ray_jobs.labels.label_ledger import user_name
    from ray_jobs.registry.pruning import prune as remove

    reporter, who = Reporter(), by or user_name()
    result = remove(
        _journal(output, job),
        keep=keep,
        by=who,
        why=why,
        dry_run=dry_run,
        on_wait=lambda owner: reporter.say(f"waiting for {owner}, which retrains or prunes"),
    )
    show_pruning(reporter, result)
    return result.to_json()


def _journal(output: str, job: str | None) -> Journal:
    """Open the journal that the arguments mean.

    Raises:
        JobError: the output has no registry, or several and none is named.
    """
    from cluster import Store
    from ray_jobs.errors import JobError
    from ray_jobs.registry.journal import Journal, jobs_with_registry

    place, storage, job_file = locate_output(output)
    store = Store(place, storage=storage)
    known = jobs_with_registry(store)
    name = job or job_name(job_file) or (known[0] if len(known) == 1 else None)
    if name is None or name not in known:
        listed = f"{'registries of the jobs' if len(known) > 1 else 'a registry of the job'} {', '.join(known)}"
        has = f"has {listed}" if known else "has no registry"
        advice = "name one with --job" if known else "the first `fewshot retrain` makes one"
        raise JobError([f"{store.root} {has}{f', not of {name}' if name and known else ''}: {advice}"])
    return Journal(store, name)


def _shown(result: RegistryMove) -> JsonResult:
    from ray_jobs.commands.registry_tables import show_move
    from ray_jobs.console.progress import Reporter

    show_move(Reporter(), result)
    return result.to_json()
