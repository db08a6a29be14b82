"""What a classify job would do and what it costs, from a look at its inputs and a few seconds of the backbone."""

from __future__ import annotations

import time
from typing import Any

from cluster import ClusterError, Executor, LocalExecutor, Workers
from cluster.execution.executor import weight_left
from fewshot.backbones import ClipSpec
from ray_jobs.classification.classify import Classification
from ray_jobs.escalation import Escalation
from ray_jobs.escalation.cost_estimate import CostEstimate
from ray_jobs.job_file.sections import Job
from ray_jobs.output.classifiers import CARD, get_threshold
from ray_jobs.steps.placement import choose

PROBE_S = 3.0


def make_plan(job: Job, *, probe: bool = True) -> dict[str, Any]:
    """Look at a job; run nothing, write nothing.

    Args:
        job: with [archive] and [support].
        probe: time the backbone, and the diffusion model that is asked, on this machine to estimate the rest. Decoding
            is not in it: it overlaps.

    Returns:
        stages with what is done and left, and the estimate; see `CostEstimate` for what [escalate] adds.

    Raises:
        ClusterError, DataError, JobError: as the job itself would.
    """
    work = Classification.from_job(job)
    shards, images = work.to_embed()
    shards_to_label, to_label = work.to_label()
    examples = sum(unit.weight for unit in work.support.units)
    examples_left = weight_left(work.support.units, work.ledger)
    trained = work.store.exists(f"{work.training.folder}/{CARD}")
    known, finished = work.listing.images, work.finished() is not None
    left = images + examples_left if known is not None else None
    executor, workers = _placed(job, left)
    cost_estimate = _cost_estimate(work) if job.escalate is not None else None
    if cost_estimate is not None and probe and not cost_estimate.finished:
        cost_estimate = cost_estimate.measured()
    views = job.support.views if job.support else 0
    seen = f"{'?' if known is None else known} images in {len(work.listing.shards)} shards"
    support = f"{len(work.support.images)} examples of {len(work.support.labels.space)} classes, {1 + views} views each"
    return {
        "stages": [
            {
                "stage": "embed examples",
                "what": support,
                "done": examples - examples_left,
                "left": examples_left,
            },
            {
                "stage": "embed archive",
                "what": seen,
                "done": None if known is None else known - images,
                "left": images if known is not None else f"{shards} shards",
            },
            {"stage": "train", "what": job.classifier.method, "done": int(trained), "left": int(not trained)},
            {
                "stage": "label",
                "what": seen,
                "done": None if known is None else known - to_label,
                "left": to_label if known is not None else f"{shards_to_label} shards",
            },
            *(cost_estimate.stages() if cost_estimate is not None else ()),
        ],
        "escalation": None if cost_estimate is None else cost_estimate.cost(),
        "archive": work.listing.to_json(),
        "examples": len(work.support.images),
        "classes": len(work.support.labels.space),
        "workers": workers.count,
        "on": "this process" if isinstance(executor, LocalExecutor) else job.cluster.address or "a Ray on this machine",
        "run": work.store.url(work.run),
        "finished": finished,
        "probe": _probe(job.clip.spec, left, workers.count) if probe and left else None,
    }


def _placed(job: Job, images: int | None) -> tuple[Executor, Workers]:
    """What the job will choose; where the cluster cannot be looked at from here, with one worker unless told."""
    try:
        return choose(job.cluster, threads=job.clip.threads, images=images)
    except ClusterError:
        return choose(job.cluster, threads=job.clip.threads, images=images, nodes=lambda _: ())


def _cost_estimate(work: Classification) -> CostEstimate:
    section, trained = work.job.escalate, work.training.folder
    assert section is not None
    sure = None
    if work.store.exists(f"{trained}/{CARD}"):
        sure = get_threshold(work.store, trained)
    escalation = Escalation(section, work.store, work.run, work.source, work.listing, work.support, sure)
    return CostEstimate(escalation, work.prediction_parts, work.job.classifier.top)


def _probe(spec: ClipSpec, images: int, workers: int) -> dict[str, Any]:
    """Time whole batches for a few seconds."""
    import torch

    from fewshot.backbones import load_clip

    clip = load_clip(spec)
    batch = torch.zeros(clip.batch_size, 3, clip.image_size, clip.image_size, dtype=torch.uint8)
    clip.embed_images(batch)
    start, done = time.monotonic(), 0
    while time.monotonic() - start < PROBE_S:
        clip.embed_images(batch)
        done += len(batch)
    rate = done / (time.monotonic() - start)
    hours = images / rate / workers / 3600
    return {
        "images_per_second": rate,
        "device": str(clip.device),
        "hours": hours,
        "gpu_hours": hours * workers if clip.device.type == "cuda" else 0.0,
    }
