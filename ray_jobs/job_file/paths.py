"""What in a job file names a place: a path or a URL. Whether a place is one that a cluster sees, others know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ray_jobs.job_file.command_needs import OTHERS, JobCommand
from ray_jobs.job_file.sections import Job

DATA: Mapping[str, tuple[str, ...]] = {
    "job": ("output",),
    "archive": ("uri", "labels"),
    "support": ("uri",),
    "classifier": ("from_",),
    "evaluate": ("splits", "images"),
}
"""Keys that are always places, by section."""
MODELS: Mapping[str, tuple[str, ...]] = {
    "clip": ("model", "pretrained"),
    "diffusion": ("model",),
    "escalate": ("model",),
}
"""Keys that are a folder, or a model's name."""
ON_THE_DRIVER: Mapping[str, tuple[str, ...]] = {"storage": ("ca_file",)}
"""Keys that are paths of the machine where the command runs, whatever the cluster sees."""


def paths_in(
    job: Job, keys: Mapping[str, tuple[str, ...]], command: JobCommand | None = None
) -> Iterator[tuple[str, str, str]]:
    """Section, field and value of each of the fields that the job has. The key of a field is without its last "_".

    Args:
        job: the job.
        keys: by section.
        command: only what this one looks at; None for all.
    """
    for section, names in keys.items():
        for key in names if command is None or section not in OTHERS[command] else ():
            if (value := getattr(getattr(job, section), key, None)) is not None:
                yield section, key, value
