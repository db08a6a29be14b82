"""Local paths in a job file, which a cluster elsewhere cannot read."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.storage.objects import absolute_path
from fewshot.backbones.clip_spec import TIMM
from ray_jobs.job_file.command_needs import DATA_PATHS, DRIVER_PATHS, MODEL_PATHS, JobCommand, paths_in
from ray_jobs.job_file.sections import Job


def local_paths(job: Job, command: JobCommand | None = None) -> dict[tuple[str, str], Path]:
    """Return the local paths in a job file, absolute, by section and key; of models only those that exist.

    Args:
        job: the job as it was read.
        command: leave out paths that this command does not read; None leaves out none.
    """
    found = {}
    for section, key, value in paths_in(job, {**DATA_PATHS, **MODEL_PATHS, **DRIVER_PATHS}, command):
        path = _local(value.removeprefix(TIMM))
        if path is not None and (section not in MODEL_PATHS or os.path.exists(path)):  # noqa: PTH110 -- never raises
            found[section, key] = path
    return found


def with_absolute_paths(job: Job) -> Job:
    """Return the job with its local paths made absolute, for a driver that runs in another folder."""
    for (section, key), path in local_paths(job).items():
        job = _with_path(job, f"{section}.{key}", path)
    return job


def _with_path(table: Any, keys: str, path: Path) -> Any:
    """Return a table with another path at the end of keys with dots between them; what stands before the path stays."""
    key, _, others = keys.partition(".")
    value = getattr(table, key)
    if others:
        return replace(table, **{key: _with_path(value, others, path)})
    return replace(table, **{key: f"{TIMM if value.startswith(TIMM) else ''}{path}"})


def local_path_problems(job: Job, command: JobCommand) -> list[str]:
    """Return a problem for each local path that a command reads, for a cluster that is not on this machine."""
    return [
        f"[{section}] {key.rstrip('_')}: {path} is a path of this machine, which the cluster cannot read. Put it into "
        "object storage (s3://…), or use --shared-paths if every node has the same files there"
        for (section, key), path in local_paths(job, command).items()
    ]


def are_local(addresses: Iterable[str]) -> bool:
    """Return whether all IP addresses, at least one, are this machine's own, and not merely forwarded to it."""
    found = [_is_local(address) for address in addresses]
    return bool(found) and all(found)


def _is_local(address: str) -> bool:
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
    return Path(absolute_path(rest))
