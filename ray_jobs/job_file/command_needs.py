"""What commands use of a job file: sections, and keys that name paths. Importing this imports no pydantic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ray_jobs.job_file.sections import Job

JobCommand = Literal["classify", "evaluate"]
"""Commands that do a job's work, here or on a cluster."""
ManifestKind = Literal["rayjob", "raycluster", "launcher"]
"""Manifests that `fewshot manifest` writes."""

NEEDS: Mapping[JobCommand, tuple[str, ...]] = {"classify": ("archive", "support"), "evaluate": ("evaluate",)}
"""Sections without which a command cannot run."""
UNUSED: Mapping[JobCommand, Mapping[str, tuple[str, ...]]] = {
    "classify": {"evaluate": ("splits", "images")},
    "evaluate": {"archive": ("uri", "labels"), "support": ("uri", "images", "validation")},
}
"""Keys of paths that a command does not read, by section."""

DATA_PATHS: Mapping[str, tuple[str, ...]] = {
    "job": ("output",),
    "archive": ("uri", "labels"),
    "support": ("uri", "images", "validation", "prompts"),
    "classifier": ("from_",),
    "evaluate": ("splits", "images"),
}
"""Keys that are always paths or URLs, by section."""
MODEL_PATHS: Mapping[str, tuple[str, ...]] = {
    "clip": ("model", "pretrained"),
    "diffusion": ("model",),
    "escalate": ("model",),
}
"""Keys that are a folder or the name of a model, by section."""
DRIVER_PATHS: Mapping[str, tuple[str, ...]] = {"storage": ("ca_file",)}
"""Keys that are paths on the machine where the command runs, by section."""


def paths_in(
    job: Job, keys: Mapping[str, tuple[str, ...]], command: JobCommand | None = None
) -> Iterator[tuple[str, str, str]]:
    """Yield section, key and value of each of the keys that the job has.

    Args:
        job: the job.
        keys: by section.
        command: leave out paths that this command does not read; None leaves out none.
    """
    for section, names in keys.items():
        unused = () if command is None else UNUSED[command].get(section, ())
        for key in names:
            if key not in unused and (value := getattr(getattr(job, section), key, None)) is not None:
                yield section, key, value
