"""Problems with the paths and URLs of a job on a cluster: local paths, volumes, credentials."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any

from cluster.secrets import without_credentials
from fewshot.backbones.clip_spec import EMBEDDED, TIMM
from fewshot.backbones.hub_repository import HUB
from fewshot.methods.table import needs_of
from ray_jobs.job_file.command_needs import DATA_PATHS, DRIVER_PATHS, MODEL_PATHS, JobCommand, paths_in
from ray_jobs.job_file.deploy_section import DeploySection
from ray_jobs.job_file.sections import Job

_LOCAL = ("file", "local")
NEEDED_FOLDERS = ("/dev/shm", "/etc/fewshot", "/home/fewshot", "/opt/fewshot", "/tmp/ray")  # noqa: S108
"""Folders that pods need for themselves: no volume may be mounted over them."""


def path_problems(job: Job, deploy: DeploySection, command: JobCommand | None) -> list[str]:
    """Return a problem for each path that pods cannot read or write.

    Args:
        job: the job.
        deploy: its section [deploy].
        command: command that will run, whose paths count; None for any.
    """
    volumes = [volume.path for volume in deploy.volumes]
    known = [*volumes, *deploy.image_folders]
    problems = [
        f"{where}: {path!r} is a path of this machine, which pods cannot read; use a URL such as s3://bucket/prefix, "
        "or a folder in [[deploy.volumes]] or deploy.image_folders"
        for where, path in _input_paths(job, command)
        if not _is_shared(path, known)
    ]
    if _is_local(job.job.output) and not _is_shared(job.job.output, _writable(deploy)):
        problems.append(
            f"[job] output: {job.job.output!r} cannot be written by every pod; use a URL such as s3://bucket/prefix, "
            "or a folder in [[deploy.volumes]] that is not read_only"
        )
    if deploy.model_cache is not None and not _is_shared(deploy.model_cache, _writable(deploy)):
        problems.append(
            f"[deploy] model_cache: {deploy.model_cache!r} is in no writable volume; use a folder in [[deploy.volumes]]"
        )
    return problems


def volume_problems(deploy: DeploySection) -> list[str]:
    """Return a problem for each volume that cannot be mounted."""
    paths = [volume.path for volume in deploy.volumes]
    twice = sorted({path for path in paths if paths.count(path) > 1})
    hiding = sorted({path for path in paths for needed in NEEDED_FOLDERS if PurePosixPath(needed).is_relative_to(path)})
    return [
        *(f"[[deploy.volumes]] path: {path!r} is mounted twice; give each volume its own path" for path in twice),
        *(
            f"[[deploy.volumes]] path: {path!r} would hide files that pods need; use another, e.g. '/data'"
            for path in hiding
        ),
    ]


def credential_problems(job: Job) -> list[str]:
    """Return a problem for each URL with a user, a password or a query string, which may be a signature."""
    sections = {name: section for name, section in asdict(job).items() if section is not None}
    return [
        f"[{section}] {key}: the URL contains credentials or a query string, which all could read in the manifest; "
        "give credentials by deploy.secret or deploy.service_account"
        for section, values in sections.items()
        for key, text in _texts(values)
        if without_credentials(text) != text
    ]


def _input_paths(job: Job, command: JobCommand | None) -> Iterator[tuple[str, str]]:
    """Yield the paths that the job reads, with their keys; not names of models, nor the output."""
    found = [(section, key, value) for section, key, value in paths_in(job, DATA_PATHS, command) if section != "job"]
    models = [(section, key, value.removeprefix(TIMM)) for section, key, value in paths_in(job, MODEL_PATHS)]
    found += [each for each in models if _is_needed(job, each[0]) and _is_folder(each[2])]
    towers = zip(("model", "beside.model"), job.clip.spec.towers, strict=False)
    names = [("clip", key, tower.model.removeprefix(TIMM)) for key, tower in towers]
    found += [each for each in names if _looks_like_a_folder(each[2])]
    found += paths_in(job, DRIVER_PATHS)
    yield from ((f"[{section}] {key.rstrip('_')}", value) for section, key, value in found)


def _is_needed(job: Job, section: str) -> bool:
    return section != "diffusion" or "diffusion" in needs_of(job.classifier.method, job.classifier.hyperparameters)


def _looks_like_a_folder(model: str) -> bool:
    return "/" in model and not model.startswith((HUB, "/", ".", "~"))


def _is_folder(model: str) -> bool:
    return model.startswith(("/", ".", "~")) or (model != EMBEDDED and os.path.exists(model))  # noqa: PTH110 -- never raises


def _writable(deploy: DeploySection) -> list[str]:
    return [volume.path for volume in deploy.volumes if not volume.read_only]


def _is_local(path: str) -> bool:
    scheme, separator, _ = path.rpartition("://")
    return not separator or scheme in (*_LOCAL, "memory")


def _is_shared(path: str, folders: list[str]) -> bool:
    """Return whether a path is the same for every machine of the cluster, given folders that all of them share."""
    if not _is_local(path):
        return True
    local = PurePosixPath(path.rpartition("://")[2])
    return ".." not in local.parts and any(local.is_relative_to(folder) for folder in folders)


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield all strings in a section, with their keys."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, key)
