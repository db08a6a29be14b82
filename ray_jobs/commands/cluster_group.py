"""Commands that send jobs to a Ray cluster, follow them there, and deploy clusters."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ray_jobs.commands.arguments import Address, JobFile, JobId, Overrides
from ray_jobs.commands.command_group import CommandGroup, JsonResult
from ray_jobs.job_file.command_needs import JobCommand, ManifestKind

commands = CommandGroup("Cluster")
_CLUSTER, _SUBMISSION = "Cluster options", "Submission options"


@commands.add(example="fewshot submit classify job.toml --address http://head:8265 --gpus 4", exit_codes=True)
def submit(
    command: Annotated[JobCommand, typer.Argument(help="Command to run on the cluster.", show_default=False)],
    job: JobFile,
    address: Address = None,
    set_: Overrides = None,
    wait: Annotated[
        bool, typer.Option(help="Follow the job to its end, and end with its result and exit code.")
    ] = True,
    gpus: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Most GPUs for the workers of the job; 0 runs on CPUs.",
            show_default="no limit",
            rich_help_panel=_CLUSTER,
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=VALUE]",
            help="Set an environment variable of the job, without a value to its value here; never a secret. "
            "Repeatable.",
            rich_help_panel=_SUBMISSION,
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            help="Submit again although an identical job exists: text that tells the two apart, such as a date.",
            metavar="TEXT",
            rich_help_panel=_SUBMISSION,
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            help="Check from this machine that the files named in the job file can be read.",
            rich_help_panel=_SUBMISSION,
        ),
    ] = True,
    shared_paths: Annotated[
        bool,
        typer.Option(
            "--shared-paths",
            help="Allow local paths: every node has the same files there.",
            rich_help_panel=_SUBMISSION,
        ),
    ] = False,
    image_has_project: Annotated[
        bool,
        typer.Option(
            "--image-has-project",
            help="Send the job file without this project's code: the nodes have it installed.",
            rich_help_panel=_SUBMISSION,
        ),
    ] = False,
) -> JsonResult:
    """Run a job on a Ray cluster.

    The job file and this project's code are sent to the cluster, and the log is shown here. Submitting a job again
    while it runs follows it; afterwards it resumes the job.
    """
    from ray_jobs.commands.output_tables import show_submission
    from ray_jobs.console.progress import Reporter
    from ray_jobs.results.submitted_jobs import SubmittedJob
    from ray_jobs.submission import SubmitOptions
    from ray_jobs.submission import submit as submit_job

    reporter = Reporter()
    options = SubmitOptions(
        command=command,
        job_file=job,
        overrides=set_ or (),
        address=address,
        gpus=gpus,
        variables=env or (),
        key=key,
        wait=wait,
        check=check,
        shared_paths=shared_paths,
        sends_code=not image_has_project,
    )
    result = submit_job(options, reporter)
    if isinstance(result, SubmittedJob):  # The log of a job that was followed has been shown.
        show_submission(reporter, result)
        return result.to_json()
    return result


@commands.add_text(example="fewshot logs fewshot-classify-groceries-0123456789ab-a1 --follow")
def logs(
    job_id: JobId,
    address: Address = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow the log to the end of the job; exit with its exit code.")
    ] = False,
) -> None:
    """Print the log of a submitted job."""
    from ray_jobs.submission import connect, print_log

    raise typer.Exit(print_log(job_id, connect(address), sys.stdout.write, to_the_end=follow))


@commands.add(example="fewshot stop fewshot-classify-groceries-0123456789ab-a1")
def stop(job_id: JobId, address: Address = None) -> JsonResult:
    """Stop a submitted job.

    The command waits until the job has stopped. Finished work is kept: submit the job again to resume.
    """
    from ray_jobs.commands.output_tables import show_submission
    from ray_jobs.console.progress import Reporter
    from ray_jobs.submission import connect, stop_job

    reporter = Reporter()
    result = stop_job(job_id, connect(address), reporter)
    show_submission(reporter, result)
    return result.to_json()


@commands.add_text(example="fewshot manifest job.toml --kind rayjob --output rayjob.yaml")
def manifest(
    job: JobFile,
    set_: Overrides = None,
    kind: Annotated[
        ManifestKind,
        typer.Option(
            help="Kind of manifest. rayjob: a KubeRay cluster that lives as long as the job; raycluster: a KubeRay "
            "cluster that stays; launcher: cloud machines that `ray up` starts."
        ),
    ] = "rayjob",
    command: Annotated[JobCommand, typer.Option(help="Command that a rayjob runs.")] = "classify",
    output: Annotated[
        Path | None, typer.Option(help="File to write.", dir_okay=False, show_default="standard output")
    ] = None,
) -> None:
    r"""Write a manifest that deploys a job to Kubernetes or to cloud machines.

    The manifest is YAML and describes the machines of section \[deploy] of the job file.
    Try: fewshot manifest job.toml | kubectl apply -f -
    """
    from ray_jobs.errors import JobError
    from ray_jobs.manifest import make_manifest

    text = make_manifest(job, set_ or (), kind=kind, command=command)
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise JobError([f"cannot write {output}: {error.strerror or error}"]) from error
