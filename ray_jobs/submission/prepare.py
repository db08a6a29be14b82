"""From the options of `fewshot submit` to a checked payload: every problem is reported before anything is sent."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from ray_jobs.console.progress import Reporter
from ray_jobs.errors import JobError
from ray_jobs.job_file.command_needs import NEEDS, JobCommand
from ray_jobs.job_file.reading import read_job, stop_if_any
from ray_jobs.preflight import check
from ray_jobs.results.json_format import JsonObject
from ray_jobs.results.submitted_jobs import SubmittedJob
from ray_jobs.submission.address import dashboard_url, fetch_ray_version
from ray_jobs.submission.client import RayJobs
from ray_jobs.submission.credentials import CREDENTIALS_ADVICE, credential_in, credentials_in_job, variables_to_send
from ray_jobs.submission.local_paths import with_absolute_paths
from ray_jobs.submission.payload import Payload, limit_gpus
from ray_jobs.submission.submit import submit_job

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOptions:
    """Arguments and options of `fewshot submit`.

    Attributes:
        command: command to run.
        job_file: the job file.
        overrides: "section.key=value".
        address: URL of the dashboard; None takes it from the environment.
        gpus: most GPUs for the workers; None leaves it to the job file.
        variables: "NAME" or "NAME=VALUE".
        key: see `id_prefix`.
        wait: follow the job to its end.
        check: check from here what the job names; impossible where only the cluster may read it.
        shared_paths: every node has the same files at the local paths.
        sends_code: send this project's code.
    """

    command: JobCommand
    job_file: Path
    overrides: Sequence[str] = ()
    address: str | None = None
    gpus: float | None = None
    variables: Sequence[str] = ()
    key: str | None = None
    wait: bool = True
    check: bool = True
    shared_paths: bool = False
    sends_code: bool = True


def submit(options: SubmitOptions, reporter: Reporter) -> SubmittedJob | JsonObject:
    """Check the options, and submit the job: see `submit_job`.

    Raises:
        JobError: with every problem of the job file, the options and the cluster.
    """
    payload, problems = prepare(options, os.environ)
    try:
        address = find_cluster(options.address, os.environ)
    except JobError as error:
        problems += error.problems
    stop_if_any(problems)
    jobs = RayJobs(address)
    return submit_job(payload, jobs, reporter, shared_paths=options.shared_paths, wait=options.wait)


def prepare(options: SubmitOptions, environment: Mapping[str, str]) -> tuple[Payload, list[str]]:
    """Return the payload, and every problem with it, one line each.

    Raises:
        JobError: there is no such job file, or no [job] in it.
    """
    needs = NEEDS[options.command]
    job, problems = read_job(options.job_file, options.overrides, needs=needs)
    if options.check:
        problems += check(job, needs)
    variables, refused = variables_to_send(options.variables, environment)
    problems += [*refused, *credentials_in_job(asdict(job), environment)]
    if options.key is not None and credential_in(options.key, environment):
        problems.append(f"--key contains a credential. {CREDENTIALS_ADVICE}")
    payload = Payload(
        command=options.command,
        job=limit_gpus(with_absolute_paths(job), options.gpus),
        variables=variables,
        key=options.key,
        sends_code=options.sends_code,
    )
    return payload, problems


def connect(address: str | None) -> RayJobs:
    """Return the jobs of a cluster.

    Args:
        address: URL of its dashboard; None takes it from the environment.

    Raises:
        JobError: there is no address, or no dashboard responds there.
    """
    return RayJobs(find_cluster(address, os.environ))


def find_cluster(address: str | None, environment: Mapping[str, str]) -> str:
    """Return the address of a dashboard that responds; log a warning if its version of Ray is another.

    Raises:
        JobError: there is no address, or no dashboard responds there.
    """
    url = dashboard_url(address, environment)
    there, here = fetch_ray_version(url, environment), version("ray")
    if there != here:
        logger.warning("the cluster runs another version of Ray, which will run the job: there=%s here=%s", there, here)
    return url
