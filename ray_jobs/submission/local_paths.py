"""Places that a job names on this machine: a cluster elsewhere does not see them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ray_jobs.job_file.command_needs import JobCommand
from ray_jobs.job_file.paths import DATA, MODELS, ON_THE_DRIVER, paths_in
from ray_jobs.job_file.sections import Job


def local_places(job: Job, command: JobCommand | None = None) -> dict[tuple[str, str], Path]:
    """The paths of this machine in a job file, absolute, by section and key; of models only those that exist.

    Args:
        job: as it was read.
        command: only what this one looks at; None for all.
    """
    found = {}
    for section, key, value in paths_in(job, {**DATA, **MODELS, **ON_THE_DRIVER}, command):
        if (path := _local(value)) is not None and (section not in MODELS or path.exists()):
            found[section, key] = path
    return found


def with_absolute_places(job: Job) -> Job:
    """The job with its local paths made absolute: it is read in another folder."""
    for (section, key), path in local_places(job).items():
        job = replace(job, **{section: replace(getattr(job, section), **{key: str(path)})})
    return job


def out_of_sight(job: Job, command: JobCommand) -> list[str]:
    """Problems: every local path of a job that a command looks at, for a cluster that is not on this machine."""
    return [
        f"[{section}] {key.rstrip('_')} is {path}, a path of this machine, which the cluster does not see. Put it into "
        "object storage (s3://…), or say --shared-paths if every node has the same files there"
        for (section, key), path in local_places(job, command).items()
    ]


def are_here(addresses: Iterable[str]) -> bool:
    """Whether all these IP addresses, at least one, are this machine's own. A forwarded port is told apart from it."""
    found = [_is_here(address) for address in addresses]
    return bool(found) and all(found)


def _is_here(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                return False
            raise
    return True


def _local(value: str) -> Path | None:
    scheme, separator, rest = value.rpartition("://")
    if separator and scheme not in ("file", "local"):
        return None
    return Path(rest).expanduser().absolute()
