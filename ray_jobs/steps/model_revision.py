"""The commit of a CLIP on the hub: found once for a job, and part of the names of its results."""

from __future__ import annotations

from dataclasses import replace

from fewshot.errors import BackboneError
from ray_jobs.errors import JobError
from ray_jobs.job_file.sections import Job


def pin_revision(job: Job) -> Job:
    """Return the job with a commit in place of a branch or tag of a CLIP on the hub.

    Raises:
        JobError: neither the hub nor its cache on this machine knows the commit.
    """
    try:
        return replace(job, clip=job.clip.pinned())
    except BackboneError as error:
        raise JobError([f"[clip] {error}"]) from error
