"""What commands use of a job file: sections, and keys that name paths. Importing this imports no pydantic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ray_jobs.job_file.sections import Job

JobCommand = Literal["classify", "evaluate"]
"""Commands that do a job's work, here or on a cluster."""
ManifestKind = Literal["rayjob", "raycluster", "launcher"]
"""Manifests that `fewshot manifest` writes."""
ScheduledCommand = Literal["retrain", "classify"]
"""Commands that `fewshot schedule` runs. They read the same sections and paths as `SCHEDULED_LIKE`."""
ScheduleKind = Literal["raycronjob", "cronjob"]
"""Manifests that `fewshot schedule` writes."""
SCHEDULED_LIKE: JobCommand = "classify"
SCHEDULED_OPTIONS: Mapping[str, tuple[str, ...]] = {"retrain": ("--by", "schedule")}
"""Options of scheduled commands that have any: the journal of a registry says who moved production."""

NEEDS: Mapping[JobCommand, tuple[str, ...]] = {"classify": ("archive", "support"), "evaluate": ("evaluate",)}
"""Sections without which a command cannot run."""
UNUSED: Mapping[JobCommand, Mapping[str, tuple[str, ...]]] = {
    "classify": {"evaluate": ("splits", "images")},
    "evaluate": {"archive": ("uri", "labels"), "support": ("uri", "images", "validation", "labels")},
}
"""Keys of paths that a command does not read, by section."""

DATA_PATHS: Mapping[str, tuple[str, ...]] = {
    "job": ("output",),
    "archive": ("uri", "labels"),
    "support": ("uri", "images", "validation", "labels", "prompts"),
    "classifier": ("from_",),
    "evaluate": ("splits", "images"),
}
"""Keys that are always paths or URLs, by section."""
MODEL_PATHS: Mapping[str, tuple[str, ...]] = {
    "clip": ("model", "pretrained", "beside.model", "beside.pretrained"),
    "diffusion": ("model",),
    "escalate": ("model",),
}
"""Keys that are a folder or the name of a model, by section; with a dot, keys of a table in it."""
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
            if key not in unused and isinstance(value := _value(getattr(job, section), key), str):
                yield section, key, value


def _value(table: Any, key: str) -> Any:
    for name in key.split("."):
        table = getattr(table, name, None)
    return table
