"""What a user asks for, looked at before anything is sent: every problem is told at once."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ray_jobs.console.progress import Reporter
from ray_jobs.errors import JobError
from ray_jobs.job_file.command_needs import NEEDS, JobCommand
from ray_jobs.job_file.reading import read_job, stop_if_any
from ray_jobs.preflight import check
from ray_jobs.submission.address import dashboard, probe
from ray_jobs.submission.client import RayJobs
from ray_jobs.submission.credentials import ADVICE, credential_in, credentials_in_job, settings_to_send
from ray_jobs.submission.local_paths import with_absolute_places
from ray_jobs.submission.payload import Order, with_gpus
from ray_jobs.submission.submit import submit_job

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The words of `fewshot submit`.

    Attributes:
        command: what to run.
        job_file: the job file.
        overrides: "section.key=value".
        address: of the dashboard; None looks into the environment.
        gpus: GPUs that the workers take at most; None leaves it to the job file.
        settings: "NAME" or "NAME=VALUE".
        key: see `submission_base`.
        waits: follow the job to its end.
        looks: look at what the job names from here; not possible where only the cluster may read it.
        shares_paths: local paths mean the same on every node.
        sends_code: send this project along.
    """

    command: JobCommand
    job_file: Path
    overrides: Sequence[str] = ()
    address: str | None = None
    gpus: float | None = None
    settings: Sequence[str] = ()
    key: str | None = None
    waits: bool = True
    looks: bool = True
    shares_paths: bool = False
    sends_code: bool = True


def submit(request: Request, reporter: Reporter) -> dict[str, Any]:
    """Check a request, and carry it out: see `submit_job`.

    Raises:
        JobError: with every problem of the job file, the settings and the cluster.
    """
    order, problems = ordered(request, os.environ)
    try:
        address = reachable(request.address, os.environ)
    except JobError as error:
        problems += error.problems
    stop_if_any(problems)
    return submit_job(order, RayJobs(address), reporter, shared_paths=request.shares_paths, wait=request.waits)


def ordered(request: Request, environment: Mapping[str, str]) -> tuple[Order, list[str]]:
    """What to send, and every problem with it, one line each.

    Raises:
        JobError: there is no such job file, or no [job] in it.
    """
    needs = NEEDS[request.command]
    job, problems = read_job(request.job_file, request.overrides, needs=needs)
    if request.looks:
        problems += check(job, needs)
    settings, unfit = settings_to_send(request.settings, environment)
    problems += [*unfit, *credentials_in_job(asdict(job), environment)]
    if request.key is not None and credential_in(request.key, environment):
        problems.append(f"--key holds a credential. {ADVICE}")
    job = with_gpus(with_absolute_places(job), request.gpus)
    order = Order(command=request.command, job=job, settings=settings, key=request.key, sends_code=request.sends_code)
    return order, problems


def connect(given: str | None) -> RayJobs:
    """The jobs of the cluster that is meant.

    Args:
        given: its address; None looks into the environment.

    Raises:
        JobError: there is none, or no dashboard answers there.
    """
    return RayJobs(reachable(given, os.environ))


def reachable(given: str | None, environment: Mapping[str, str]) -> str:
    """The address of a dashboard that answers; where it runs another Ray, a warning: that one runs the job."""
    address = dashboard(given, environment)
    there, here = probe(address, environment), version("ray")
    if there != here:
        logger.warning("the cluster runs another Ray: there=%s here=%s", there, here)
    return address
