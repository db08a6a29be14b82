"""The cost of a classification, estimated from its inputs and a few seconds of the backbone."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial

from cluster import ClusterError, Executor, LocalExecutor, Workers
from fewshot.backbones import ClipSpec
from ray_jobs.classification.classify import Classification
from ray_jobs.classification.label_set_plan import warnings_about_label_sets
from ray_jobs.classification.labelled_shares import error_limit_plan
from ray_jobs.escalation.cost_estimate import CostEstimate
from ray_jobs.inputs.class_warnings import warnings_about_classes
from ray_jobs.job_file.sections import Job
from ray_jobs.output.classifiers import ClassifierRef
from ray_jobs.output.latest_runs import read_latest
from ray_jobs.output.runs import read_load
from ray_jobs.report.markup import plural
from ray_jobs.results.cost_plan import BackboneFacts, BackboneProbe, CostPlan, PlannedStage
from ray_jobs.results.json_format import FormatError
from ray_jobs.results.stage_load import StageLoad
from ray_jobs.steps.placement import choose

PROBE_S = 3.0


def make_plan(job: Job, *, probe: bool = True) -> CostPlan:
    """Estimate the cost of a job; nothing is run and nothing is written.

    Args:
        job: with [archive], and [support] or a stored classifier.
        probe: time the backbone, and the diffusion model of [escalate], on this machine to estimate the rest. Decoding
            is not in it: it overlaps.

    Raises:
        ClusterError, DataError, JobError: as the job itself would.
    """
    work = Classification.from_job(job, may_guess=True)
    counts = {} if work.support is None else work.support.labels.counts
    examples = sum(part.weight for part in work.embedded_parts)
    examples_left = sum(part.weight_left for part in work.embedded_parts)
    classifier = work.stored if work.stored is not None else work.training.find(work.store)
    shards, images = work.to_embed()
    known = work.listing.images
    left = images + examples_left if known is not None else None
    units = len(work.example_units)
    executor, workers = _placed(work, left, max(shards, units))
    cost_estimate = _cost_estimate(work, classifier, probe=probe) if job.escalate is not None else None
    return CostPlan(
        stages=(
            *_example_stages(work, examples - examples_left, examples_left),
            _archive_stage("embed archive", work, work.to_embed()),
            *_sample_stages(work, classifier),
            *([] if work.stored is not None else [_train_stage(work, classifier)]),
            _archive_stage("label", work, work.to_label()),
            *(cost_estimate.stages() if cost_estimate is not None else ()),
        ),
        escalation=None if cost_estimate is None else cost_estimate.cost(),
        archive=work.listing.summary(),
        examples=work.examples,
        classes=len(work.classes),
        examples_of_class=counts,
        warnings=(*work.notices, *_class_warnings(work, counts), *_label_set_warnings(work, counts)),
        workers=workers.count,
        on="this process" if isinstance(executor, LocalExecutor) else job.cluster.address or "a Ray on this machine",
        run=work.store.url(work.run),
        finished=work.finished() is not None,
        error_limit=error_limit_plan(job.classifier, work.support, classifier, work.validation),
        probe=_probe(work.job.clip.spec, left, workers.count) if probe and left else None,
        embedding=_last_load(work),
        label_sets=work.label_sets,
        unknown=None if work.unknown is None else work.unknown.summary(),
        audited=work.audited,
    )


def _class_warnings(work: Classification, counts: Mapping[str, int]) -> Iterator[str]:
    return warnings_about_classes(counts, has_text=work.job.clip.has_text)


def _label_set_warnings(work: Classification, counts: Mapping[str, int]) -> list[str]:
    return [] if work.label_sets is None else warnings_about_label_sets(work.label_sets, counts)


def _last_load(work: Classification) -> StageLoad | None:
    """Return how busy the stages were in the job's last complete run, as far as that is known."""
    with suppress(FormatError):
        latest, name = read_latest(work.store), work.job.job.name
        folder = latest.jobs.get(name, {}).get("classification") if latest is not None else None
        return read_load(work.store, folder) if folder is not None else None
    return None


def _example_stages(work: Classification, done: int, left: int) -> list[PlannedStage]:
    """Nothing where a stored classifier needs no examples embedded."""
    if work.embedded is None:
        return []
    views = f", each with {plural(work.job.views, 'view')}" if work.job.views else ""
    what = f"{work.examples} examples of {len(work.classes)} classes{views}"
    return [PlannedStage(stage="embed examples", what=what, done=done, left=left)]


def _archive_stage(stage: str, work: Classification, left: tuple[int, int]) -> PlannedStage:
    """A stage over the archive; `left`: its shards, and their images as far as known."""
    shards, images = left
    known = work.listing.images
    what = f"{'?' if known is None else known} images in {plural(len(work.listing.shards), 'shard')}"
    if known is None:
        return PlannedStage(stage=stage, what=what, done=None, left=plural(shards, "shard"))
    return PlannedStage(stage=stage, what=what, done=known - images, left=images)


def _sample_stages(work: Classification, classifier: ClassifierRef | None) -> list[PlannedStage]:
    """Nothing unless the classifier learns from the archive."""
    if work.sample is None:
        return []
    images = min(work.sample.size, work.listing.images or work.sample.size)
    what = f"{'a kept sample' if work.sample.is_kept else 'at most'} of {images} images"
    drawn = classifier is not None or work.store.exists(work.sample.path)
    return [PlannedStage(stage="sample archive", what=what, done=int(drawn), left=int(not drawn))]


def _train_stage(work: Classification, classifier: ClassifierRef | None) -> PlannedStage:
    trained = classifier is not None
    return PlannedStage(stage="train", what=work.job.classifier.method, done=int(trained), left=int(not trained))


def _placed(work: Classification, images: int | None, units: int) -> tuple[Executor, Workers]:
    """Where the job will run; of a cluster that cannot be reached from here, the number of workers is a guess."""
    cluster, clip = work.job.cluster, work.job.clip
    place = partial(choose, cluster, threads=clip.threads, images=images, units=units, device=clip.device)
    try:
        return place(nodes=work.nodes)
    except ClusterError:
        return place(nodes=lambda _: ())


def _cost_estimate(work: Classification, classifier: ClassifierRef | None, *, probe: bool) -> CostEstimate:
    escalation = work.escalation(None if classifier is None else classifier.threshold())
    estimate = CostEstimate(escalation, work.labelled_parts, work.job.classifier.top)
    if not probe or estimate.finished:
        return estimate
    return estimate.with_probe(gpu_share=work.job.cluster.gpus_per_worker)


def _probe(spec: ClipSpec, images: int, workers: int) -> BackboneProbe:
    """Time whole batches for a few seconds."""
    import torch

    from fewshot.backbones import load_backbone

    clip = load_backbone(spec)
    batch = torch.zeros(clip.batch_size, 3, *clip.input_size, dtype=torch.uint8)
    clip.embed_images(batch)
    start, done = time.monotonic(), 0
    while time.monotonic() - start < PROBE_S:
        clip.embed_images(batch)
        done += len(batch)
    rate = done / (time.monotonic() - start)
    hours = images / rate / workers / 3600
    return BackboneProbe(
        images_per_second=rate,
        device=str(clip.device),
        hours=hours,
        gpu_hours=hours * workers if clip.device.type == "cuda" else 0.0,
        backbone=BackboneFacts(**asdict(clip.record)),
    )
