"""The `fewshot` command.

Results are JSON on stdout (left out where stdout is a terminal: people get tables), progress and logs on stderr; exit 0
done, 1 some work failed, 2 the job file or the set-up is wrong.
"""

from __future__ import annotations

import math
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from cluster import Storage
from cluster.errors import ClusterError, LeaseHeldError, SourceError, WorkerStartError
from cluster.storage.settings import DEFAULT_STORAGE
from fewshot.errors import FewShotError
from ray_jobs.commands.catalogue_tables import show_methods, show_models
from ray_jobs.commands.classification_tables import show_classification, show_demo, show_plan
from ray_jobs.commands.evaluation_tables import show_evaluation
from ray_jobs.commands.output_tables import show_reports, show_status
from ray_jobs.commands.submission_tables import show_jobs, show_submission
from ray_jobs.console.interrupts import heard, listen
from ray_jobs.console.json_result import written
from ray_jobs.console.progress import Reporter
from ray_jobs.console.sanitize import configure_logging, sanitized
from ray_jobs.errors import DetachedError, JobError
from ray_jobs.job_file.command_needs import NEEDS, JobCommand
from ray_jobs.job_file.deploy_section import ManifestKind
from ray_jobs.job_file.reading import read_job, stop_if_any
from ray_jobs.job_file.sections import Job, ProtocolName
from ray_jobs.preflight import check
from ray_jobs.results.json_format import SupportsJson

DONE, SOME_FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130

T = TypeVar("T")
R = TypeVar("R", bound=SupportsJson | dict[str, Any])
"""The result of a command."""

app = typer.Typer(
    name="fewshot",
    help="Classify image archives from a handful of labelled examples, on this machine or on a Ray cluster.",
    epilog="Begin with: fewshot demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

JobFile = Annotated[Path, typer.Argument(help="A job file (TOML).", metavar="JOB.toml", show_default=False)]
Output = Annotated[
    str,
    typer.Argument(
        help="A job file, or the output it names (any fsspec URL).", metavar="JOB.toml|OUTPUT", show_default=False
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a key of the job file; repeatable."),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="The dashboard of a running Ray; RAY_API_SERVER_ADDRESS or RAY_ADDRESS otherwise.",
        metavar="http://HEAD:8265",
        show_default=False,
    ),
]
JobId = Annotated[str, typer.Argument(help="What `fewshot submit` called it.", metavar="ID", show_default=False)]


@app.command(epilog="Example: fewshot demo --folder runs/demo")
def demo(
    folder: Annotated[Path, typer.Option(help="Where to put the demo's archive, job file and results.")] = Path(
        "runs/demo"
    ),
) -> None:
    """Label an archive of emoji that ships with the project, from two examples a class, on a Ray of its own."""
    from ray_jobs.commands.demo import run_demo

    reporter = Reporter()
    _run(lambda: run_demo(folder, reporter), then=lambda result: show_demo(reporter, result))


@app.command(epilog="Example: fewshot plan job.toml --set support.shots=8")
def plan(
    job: JobFile,
    set_: Overrides = None,
    probe: Annotated[
        bool, typer.Option(help="Time the backbone for a few seconds to predict how long it takes.")
    ] = True,
) -> None:
    """Tell what would run, what is done already and what the rest costs; run nothing."""
    from ray_jobs.classification.plan import make_plan

    reporter = Reporter()
    _run(
        lambda: make_plan(_checked(job, set_, needs=NEEDS["classify"]), probe=probe),
        then=lambda result: show_plan(reporter, result),
    )


@app.command(epilog="Example: fewshot classify job.toml --set cluster.clip_workers=2")
def classify(job: JobFile, set_: Overrides = None) -> None:
    """Label every image of an archive. Run it again to resume, or after examples or images were added."""
    from ray_jobs.classification.classify import classify as run

    reporter = Reporter()
    _run(
        lambda: run(_checked(job, set_, needs=NEEDS["classify"]), reporter),
        then=lambda result: show_classification(reporter, result),
    )


@app.command(epilog="Example: fewshot evaluate job.toml --protocol base-to-new --set 'evaluate.shots=[1, 4]'")
def evaluate(
    job: JobFile,
    set_: Overrides = None,
    protocol: Annotated[
        ProtocolName | None,
        typer.Option(help="What is learned from and asked; the job file's evaluate.protocol otherwise."),
    ] = None,
) -> None:
    """Measure methods × shots × seeds on a labelled set, as one table. Run it again to resume."""
    from ray_jobs.evaluation.evaluate import evaluate as run

    reporter = Reporter()
    settings = [*(set_ or []), *([f"evaluate.protocol={protocol}"] if protocol else [])]
    _run(
        lambda: run(_checked(job, settings, needs=NEEDS["evaluate"]), reporter),
        then=lambda result: show_evaluation(reporter, result),
    )


@app.command(epilog="Example: fewshot manifest job.toml --kind rayjob --output rayjob.yaml")
def manifest(
    job: JobFile,
    set_: Overrides = None,
    kind: Annotated[
        ManifestKind,
        typer.Option(
            help="rayjob: a KubeRay cluster that lives as long as the job. raycluster: one that stays. launcher: "
            "machines in the cloud, for `ray up`."
        ),
    ] = "rayjob",
    command: Annotated[JobCommand, typer.Option(help="What a rayjob runs.")] = "classify",
    output: Annotated[
        Path | None, typer.Option(help="Write here instead of stdout.", dir_okay=False, show_default=False)
    ] = None,
) -> None:
    """Write what brings a job onto a cluster, as its job file says under `deploy`.

    The result is YAML, not JSON: fewshot manifest job.toml | kubectl apply -f -
    """
    from ray_jobs.manifest import make_manifest

    text = _guarded(lambda: make_manifest(job, set_ or (), kind=kind, command=command))
    if output is None:
        sys.stdout.write(text)
    else:
        _guarded(lambda: _write(output, text))


@app.command("submit", epilog="Example: fewshot submit classify job.toml --address http://head:8265 --gpus 4")
def submit_(
    command: Annotated[JobCommand, typer.Argument(help="What to run.", show_default=False)],
    job: JobFile,
    address: Address = None,
    set_: Overrides = None,
    wait: Annotated[bool, typer.Option(help="Follow the job, and end with its result and exit code.")] = True,
    gpus: Annotated[float | None, typer.Option(min=0, help="GPUs that its workers take at most.")] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=VALUE]", help="A setting for its environment, no secret; repeatable."),
    ] = None,
    key: Annotated[str | None, typer.Option(help="Tells it from a submission that is the same otherwise.")] = None,
    look: Annotated[
        bool, typer.Option("--check/--no-check", help="Look, from here, at what the job file names.")
    ] = True,
    shared_paths: Annotated[bool, typer.Option("--shared-paths", help="Every node sees the local paths.")] = False,
    image_has_project: Annotated[
        bool, typer.Option("--image-has-project", help="Send only the job file: the nodes have this package.")
    ] = False,
) -> None:
    """Run a job on a Ray cluster. Submitting it again while it runs follows it; afterwards, it resumes."""
    from ray_jobs.submission import Request, submit

    reporter = Reporter()
    request = Request(
        command=command,
        job_file=job,
        overrides=set_ or (),
        address=address,
        gpus=gpus,
        settings=env or (),
        key=key,
        waits=wait,
        looks=look,
        shares_paths=shared_paths,
        sends_code=not image_has_project,
    )
    _run(lambda: submit(request, reporter), then=lambda result: show_submission(reporter, result))


@app.command(epilog="Example: fewshot logs fewshot-classify-groceries-0123456789ab-a1 --address http://head:8265")
def logs(
    submission: JobId,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until it ends; exit with its exit code.")] = False,
) -> None:
    """Print what a submitted job has written."""
    from ray_jobs.submission import connect, print_log

    code = _guarded(lambda: print_log(submission, connect(address), sys.stdout.write, to_the_end=follow))
    raise typer.Exit(code)


@app.command(epilog="Example: fewshot stop fewshot-classify-groceries-0123456789ab-a1 --address http://head:8265")
def stop(submission: JobId, address: Address = None) -> None:
    """Stop a submitted job. What is done is kept: submit it again to resume."""
    from ray_jobs.submission import connect, stop_job

    reporter = Reporter()
    _run(
        lambda: stop_job(submission, connect(address), reporter),
        then=lambda result: show_submission(reporter, result),
    )


@app.command(epilog="Example: fewshot status runs/groceries")
def status(
    output: Annotated[
        str | None,
        typer.Argument(
            help="A job file, or the output it names (any fsspec URL); with --address, the ID of a submitted job.",
            metavar="JOB.toml|OUTPUT|ID",
            show_default=False,
        ),
    ] = None,
    address: Address = None,
) -> None:
    """Tell how far the runs of an output are, from storage alone, so from anywhere; or, without one, how jobs stand."""
    reporter = Reporter()
    if output is None or address is not None:
        from ray_jobs.submission import connect, list_jobs

        _run(lambda: list_jobs(connect(address), output), then=lambda result: show_jobs(reporter, result))
    else:
        from ray_jobs.commands.status import read_status

        _run(lambda: read_status(*_output_of(output)), then=lambda result: show_status(reporter, result))


@app.command(epilog="Example: fewshot report runs/groceries")
def report(output: Output) -> None:
    """Tell where the reports of an output lie, pages to look at in a browser; write those that are missing."""
    from ray_jobs.report import find_reports

    reporter = Reporter()
    _run(lambda: find_reports(*_output_of(output)), then=lambda result: show_reports(reporter, result))


@app.command(epilog="Example: fewshot methods")
def methods() -> None:
    """List the methods with their hyperparameters."""
    from ray_jobs.commands.catalogue import list_methods

    reporter = Reporter()
    _run(list_methods, then=lambda result: show_methods(reporter, result))


@app.command(epilog="Example: fewshot models ViT-H")
def models(containing: Annotated[str, typer.Argument(help="Only names that contain this.")] = "") -> None:
    """List the backbones that can be named under clip.model, with their weights."""
    from ray_jobs.commands.catalogue import list_models

    reporter = Reporter()
    _run(lambda: list_models(containing), then=lambda result: show_models(reporter, result))


def _checked(path: Path, overrides: Sequence[str] | None, *, needs: Sequence[str]) -> Job:
    """Read a job file and look at what it names; every problem is told at once."""
    job, problems = read_job(path, overrides or (), needs=needs)
    stop_if_any([*problems, *check(job, needs)])
    return job


def _output_of(name: str) -> tuple[str, Storage]:
    if not name.endswith(".toml"):
        return name, DEFAULT_STORAGE
    job, problems = read_job(name)
    stop_if_any(problems)
    try:
        return job.job.output, job.storage.resolve()
    except (OSError, ValueError) as error:
        raise JobError([f"[storage]: {error}"]) from error


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise JobError([f"cannot write {path}: {error.strerror or error}"]) from error


def _run(work: Callable[[], R], *, then: Callable[[R], None]) -> None:
    """Run a command: JSON on stdout, a table for people on stderr, errors as exit codes."""
    with redirect_stdout(sys.stderr):  # Ray itself tells of lost workers, on stdout.
        result = _guarded(work)
        then(result)
    printed: dict[str, Any] = result if isinstance(result, dict) else result.to_json()
    if not sys.stdout.isatty():
        sys.stdout.write(written(_plain(printed), os.environ))
    failed = not printed.get("complete", True) or printed.get("too_many_unreadable", False)
    raise typer.Exit(SOME_FAILED if failed else DONE)


def _guarded(work: Callable[[], T]) -> T:
    try:
        return work()
    except JobError as error:
        _stop(error.problems, WRONG)
    except (SourceError, WorkerStartError, LeaseHeldError, FewShotError, PermissionError) as error:
        _stop([str(error)], WRONG)
    except ClusterError as error:
        _stop([str(error)], SOME_FAILED)
    except DetachedError as error:
        heard()
        _stop([str(error)], INTERRUPTED)
    except KeyboardInterrupt:
        heard()
        _stop(["interrupted; what is done is kept, run again to resume"], INTERRUPTED)
    raise AssertionError("unreachable")


def _stop(problems: Sequence[str], code: int) -> None:
    for problem in problems:
        sys.stderr.write(f"error: {sanitized(problem)}\n")
    raise typer.Exit(code)


def _plain(value: Any) -> Any:
    """JSON has no NaN: a number that does not exist is null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def main() -> None:
    """Entry point of the console command."""
    listen(os.environ)
    configure_logging(os.environ.get("FEWSHOT_LOG", "WARNING"))
    try:
        app()
    except Exception:  # noqa: BLE001 -- a mistake of ours: its traceback helps, but may quote a secret
        sys.stderr.write(sanitized(traceback.format_exc()))
        sys.exit(SOME_FAILED)
