"""Which paths of a job are there on a cluster, and which only on the machine where the job file was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from cluster.secrets import without_credentials
from fewshot.backbones.clip_spec import EMBEDDED
from fewshot.names import wants_diffusion
from ray_jobs.job_file.command_needs import JobCommand
from ray_jobs.job_file.deploy_section import DeploySection
from ray_jobs.job_file.paths import DATA, MODELS, ON_THE_DRIVER, paths_in
from ray_jobs.job_file.sections import Job

_LOCAL = ("file", "local")
NEEDED_FOLDERS = ("/dev/shm", "/etc/fewshot", "/home/fewshot", "/opt/fewshot", "/tmp/ray")  # noqa: S108
"""What pods need for themselves: nothing may be mounted over these."""


def place_problems(job: Job, deploy: DeploySection, command: JobCommand | None) -> list[str]:
    """Places that pods cannot see, or cannot write to, of those that a command looks at; None is any command."""
    volumes = [volume.path for volume in deploy.volumes]
    known = [*volumes, *deploy.image_folders]
    problems = [
        f"{where}: {place!r} is on this machine only; name any fsspec URL, such as s3://bucket/prefix, or a folder of "
        "[[deploy.volumes]] or deploy.image_folders"
        for where, place in _places(job, command)
        if not _is_shared(place, known)
    ]
    if _is_local(job.job.output) and not _is_shared(job.job.output, _writable(deploy)):
        problems.append(
            f"[job] output: {job.job.output!r} cannot be written by every pod; name any fsspec URL, such as "
            "s3://bucket/prefix, or a folder of [[deploy.volumes]] that is not read_only"
        )
    if deploy.model_cache is not None and not _is_shared(deploy.model_cache, _writable(deploy)):
        problems.append(
            f"[deploy] model_cache: {deploy.model_cache!r} lies in none of [[deploy.volumes]] that can be written"
        )
    return problems


def volume_problems(deploy: DeploySection) -> list[str]:
    """Volumes that cannot be mounted beside each other."""
    paths = [volume.path for volume in deploy.volumes]
    twice = sorted({path for path in paths if paths.count(path) > 1})
    hiding = sorted({path for path in paths for needed in NEEDED_FOLDERS if PurePosixPath(needed).is_relative_to(path)})
    return [
        *(f"[[deploy.volumes]] path: {path!r} is mounted twice" for path in twice),
        *(
            f"[[deploy.volumes]] path: {path!r} would hide what pods need; choose another, e.g. '/data'"
            for path in hiding
        ),
    ]


def credential_problems(job: Job) -> list[str]:
    """URLs that carry a user, a password or a query string, which may be a signature."""
    sections = {name: section for name, section in asdict(job).items() if section is not None}
    return [
        f"[{section}] {key}: the URL carries credentials or a query string, which would be readable in the manifest: "
        "give credentials through the environment, see deploy.secret"
        for section, values in sections.items()
        for key, text in _texts(values)
        if without_credentials(text) != text
    ]


def _places(job: Job, command: JobCommand | None) -> Iterator[tuple[str, str]]:
    """What the job reads, beside models from a hub. Its output has a rule of its own."""
    found = [(section, key, value) for section, key, value in paths_in(job, DATA, command) if section != "job"]
    found += [each for each in paths_in(job, MODELS) if _is_needed(job, each[0]) and _is_folder(each[2])]
    if "/" in job.clip.model and not job.clip.model.startswith(("hf-hub:", "/", ".", "~")):
        found.append(("clip", "model", job.clip.model))
    found += paths_in(job, ON_THE_DRIVER)
    yield from ((f"[{section}] {key.rstrip('_')}", value) for section, key, value in found)


def _is_needed(job: Job, section: str) -> bool:
    return section != "diffusion" or wants_diffusion(job.classifier.method, job.classifier.hyperparameters)


def _is_folder(model: str) -> bool:
    return model.startswith(("/", ".", "~")) or (model != EMBEDDED and Path(model).exists())


def _writable(deploy: DeploySection) -> list[str]:
    return [volume.path for volume in deploy.volumes if not volume.read_only]


def _is_local(place: str) -> bool:
    scheme, separator, _ = place.rpartition("://")
    return not separator or scheme in (*_LOCAL, "memory")


def _is_shared(place: str, folders: list[str]) -> bool:
    """Whether every machine of the cluster sees the same there, given folders that all of them have."""
    if not _is_local(place):
        return True
    path = PurePosixPath(place.rpartition("://")[2])
    return ".." not in path.parts and any(path.is_relative_to(folder) for folder in folders)


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All texts in a section, with their keys."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, key)
