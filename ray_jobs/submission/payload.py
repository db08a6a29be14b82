"""What is sent to a cluster: the command, the job as it will be read there, code and environment variables."""

from __future__ import annotations

import math
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cluster.secrets import public_url
from ray_jobs.console.interrupts import STOP_SIGNAL
from ray_jobs.console.json_result import RESULT_LINE
from ray_jobs.job_file.command_needs import JobCommand
from ray_jobs.job_file.reading import job_file_text
from ray_jobs.job_file.sections import Job

PACKAGES = ("cluster", "fewshot", "ray_jobs")
JOB_FILE = "job.toml"
STOP_WAIT_S = 60
"""Seconds from the signal to stop until Ray kills a job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """A job as it is sent to a cluster.

    Attributes:
        command: command to run.
        job: the job, its local paths absolute.
        variables: environment variables of the driver and the workers; all who may list jobs can read them.
        key: see `id_prefix`.
        sends_code: send this project's three packages; otherwise the nodes have them installed.
    """

    command: JobCommand
    job: Job
    variables: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    sends_code: bool = True

    @property
    def entrypoint(self) -> str:
        """Shell command of the driver, which runs in the folder with the job file."""
        words = ["python", "-m", "ray_jobs", self.command, JOB_FILE, "--set", "cluster.address=auto"]
        return shlex.join(words)

    @property
    def metadata(self) -> dict[str, str]:
        """Command, name, output and key, for lists of jobs."""
        section = self.job.job
        metadata = {"command": self.command, "name": section.name, "output": public_url(section.output)}
        return metadata | ({"key": self.key} if self.key is not None else {})

    @contextmanager
    def environment(self) -> Iterator[dict[str, Any]]:
        """Provide Ray's runtime environment: a folder with the job file, code and variables.

        Yields:
            the environment; the folder exists until the context ends.
        """
        with tempfile.TemporaryDirectory(prefix="fewshot-") as folder:
            (Path(folder) / JOB_FILE).write_text(job_file_text(self.job), encoding="utf-8")
            own = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S), STOP_SIGNAL: "SIGINT", RESULT_LINE: "1"}
            environment: dict[str, Any] = {"working_dir": folder, "env_vars": {**self.variables, **own}}
            if self.sends_code:
                environment |= {"py_modules": [str(_folder(name)) for name in PACKAGES]}
            yield environment


def limit_gpus(job: Job, gpus: float | None) -> Job:
    """Return the job with at most as many workers at a time as the GPUs hold.

    Args:
        job: its workers take `cluster.gpus_per_worker` GPUs each, 1 if that is None.
        gpus: GPUs in all, >= 0; 0 uses none, None changes nothing.
    """
    if gpus is None:
        return job
    if gpus == 0:
        return replace(job, cluster=replace(job.cluster, gpus_per_worker=0.0))
    share = job.cluster.gpus_per_worker or 1.0
    most = max(1, math.floor(gpus / share + 1e-6))
    workers = min(most, job.cluster.clip_workers or most)
    return replace(job, cluster=replace(job.cluster, gpus_per_worker=min(share, gpus), clip_workers=workers))


def _folder(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
