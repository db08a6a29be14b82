"""The main job: archive in, predictions out. Run it again to resume; what is done is found and not done again.

Stages: look (examples, archive) -> embed (examples and archive, one pool of workers) -> train -> label -> (with
[escalate]: ask a diffusion model about the doubtful ones) -> report.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

from cluster import Executor, Lease, Ledger, LocalExecutor, StageReport, Store, Unit, Workers, run_stage
from cluster.execution.executor import weight_left
from cluster.records import Source
from fewshot.methods.table import needs_of
from ray_jobs.classification.metrics import summarise, too_many_unreadable
from ray_jobs.console.progress import Reporter
from ray_jobs.errors import JobError
from ray_jobs.escalation import CHEAP_PREDICTIONS, Escalation, escalation_identity
from ray_jobs.inputs.archive import Listing, archive_units, list_archive, open_archive
from ray_jobs.inputs.examples import LabelledUnits, read_labels, support_units
from ray_jobs.job_file.sections import ArchiveSection, Job, SupportSection
from ray_jobs.output.classifiers import get_threshold
from ray_jobs.output.layout import (
    METRICS,
    PREDICTIONS,
    dense_folder,
    features_folder,
    prediction_part,
    run_folder,
)
from ray_jobs.output.run_lease import acquire_run
from ray_jobs.output.runs import begin
from ray_jobs.report import ensure_report
from ray_jobs.steps.embed import EmbedStep
from ray_jobs.steps.placement import choose
from ray_jobs.steps.predict import PredictStep
from ray_jobs.steps.train import Training

COUNTS = ("curve", "labels", "reliability", "score_histogram")
"""What of the metrics is too long to be printed."""
LABEL_HERE = 200_000
"""Images up to which this process labels by itself: a matter of seconds, where starting workers costs as much."""


@dataclass(frozen=True)
class Classification:
    """A classify job that was looked at, but not run: what there is, what it is called, what is left to do.

    Attributes:
        job: the job file.
        store: the output.
        source: the archive.
        listing: what is in it.
        support: the examples.
    """

    job: Job
    store: Store
    source: Source
    listing: Listing
    support: LabelledUnits

    @classmethod
    def from_job(cls, job: Job) -> Classification:
        """Look at everything a job names; nothing is embedded.

        Raises:
            JobError: [archive] or [support] is missing.
            DataError: the examples are not what they should be.
            ClusterError: the archive or the output cannot be opened.
        """
        archive, support = _sections(job)
        storage = job.storage.resolve()
        store = Store(job.job.output, storage=storage)
        folder = features_folder(job.clip.spec, f"support-{support.views}")
        source = open_archive(archive, storage)
        units = support_units(support, folder, dense=_needs_dense(job), storage=storage)
        return cls(job, store, source, list_archive(source), units)

    @property
    def ledger(self) -> Ledger:
        """What is committed."""
        return Ledger(self.store)

    @cached_property
    def features(self) -> str:
        """Folder of the archive's features."""
        folder = features_folder(self.job.clip.spec, self.listing.place)
        return dense_folder(folder) if _needs_dense(self.job) else folder

    @cached_property
    def training(self) -> Training:
        """What the classifier is trained from."""
        seed = self.job.support.seed if self.job.support else 0
        section = self.job.classifier
        learns = "diffusion" in needs_of(section.method, section.hyperparameters)
        diffusion = self.job.diffusion.spec if learns else None
        return Training(self.job.clip.spec, self.job.clip.templates, section, seed, self.support, diffusion)

    @cached_property
    def run(self) -> str:
        """Folder of the results. Its name follows from everything that determines predictions and metrics."""
        archive = self.job.archive
        given = archive.labels if archive is not None else None
        truth = read_labels(given, storage=self.store.storage).identity if given else None
        identity = [self.training.identity, self.listing.place, self.listing.contents, self.job.classifier.top, truth]
        if self.job.escalate is not None:
            identity.append(escalation_identity(self.job.escalate))
        return run_folder(self.job.job.name, identity)

    def finished(self) -> dict[str, Any] | None:
        """The metrics of this very run, if it is complete."""
        with suppress(FileNotFoundError):
            metrics: dict[str, Any] = json.loads(self.store.get(f"{self.run}/{METRICS}"))
            told = metrics | {"too_many_unreadable": too_many_unreadable(self.job, metrics)}
            return told if metrics["complete"] else None
        return None

    @property
    def labelled(self) -> str:
        """Folder of what the classifier says: the predictions, unless some of them go further."""
        return f"{self.run}/{PREDICTIONS if self.job.escalate is None else CHEAP_PREDICTIONS}"

    @property
    def prediction_parts(self) -> list[str]:
        """The parts of what the classifier says, in the archive's order."""
        return [prediction_part(self.labelled, index, name) for index, (name, _) in enumerate(self.listing.shards)]

    def to_embed(self) -> tuple[int, int]:
        """How many shards, and images as far as known, have no features yet."""
        return self.listing.left(self.listing.parts(self.features), self.ledger.done(self.features))

    def to_label(self) -> tuple[int, int]:
        """How many shards, and images as far as known, have no predictions yet."""
        return self.listing.left(self.prediction_parts, self.ledger.done(self.labelled))

    def embed_units(self) -> Iterator[Unit]:
        """Examples first: they are few, and mistakes in them show early."""
        return chain(self.support.units, archive_units(self.source, self.features, dense=_needs_dense(self.job)))

    def predict_units(self) -> Iterator[Unit]:
        """One for each shard that has features."""
        done = self.ledger.done(self.features)
        features = self.listing.parts(self.features)
        for part, prediction, (_, size) in zip(features, self.prediction_parts, self.listing.shards, strict=True):
            if part in done:
                yield Unit(prediction, part, weight=size or 1)


def _needs_dense(job: Job) -> bool:
    return "dense" in needs_of(job.classifier.method, job.classifier.hyperparameters)


def _sections(job: Job) -> tuple[ArchiveSection, SupportSection]:
    if job.archive is None or job.support is None:
        raise JobError(["classify needs the sections [archive] and [support]"])
    return job.archive, job.support


def classify(job: Job, reporter: Reporter) -> dict[str, Any]:
    """Label every image of an archive.

    Args:
        job: a job file with [archive] and [support].
        reporter: where to tell how it is going.

    Returns:
        the metrics, which also lie in the run's folder; `complete` says whether every unit is done.

    Raises:
        JobError: the job cannot start.
        DataError: the examples are not what they should be.
        LeaseHeldError: another process is at work on this very run; nothing was done.
        ClusterError: storage or workers fail as a whole. Run again to resume.
    """
    work = Classification.from_job(job)
    if (metrics := work.finished()) is not None:
        reporter.say(f"nothing to do: {work.store.url(work.run)} is complete")
        return _told(work, metrics, did="nothing")
    with acquire_run(work.store, work.run, job.storage, reporter) as lease:
        if (metrics := work.finished()) is not None:  # by whoever held it before
            return _told(work, metrics, did="nothing")
        return _carry_out(work, reporter, lease)


def _carry_out(work: Classification, reporter: Reporter, lease: Lease) -> dict[str, Any]:
    """All stages, as the only one at work on this run."""
    job = work.job
    _write_plan(work)
    embedding = _embed(work, reporter)
    if not set(work.support.paths) <= work.ledger.done(_folder(work.support.paths)):
        raise JobError([f"the examples could not be embedded: {f.path}: {f.error}" for f in embedding.failures])
    reporter.say(f"training {job.classifier.method} on {len(work.support.images)} examples")
    classifier = work.training.run(work.store)
    labelling = _label(work, classifier, reporter)
    stages = [embedding, labelling]
    escalated = None
    if job.escalate is not None:
        sure = get_threshold(work.store, classifier)
        escalation = Escalation(job.escalate, work.store, work.run, work.source, work.listing, work.support, sure)
        with escalation.stages(work.prediction_parts, job.cluster, reporter) as asking:
            escalated = escalation.carry_out(work.prediction_parts, asking)
        stages += asking.reports
    lease.check()
    metrics = summarise(work.store, work.run, job, work.listing, classifier, stages, escalated)
    return _told(work, metrics, did="everything" if not embedding.skipped else "the rest")


def _told(work: Classification, metrics: dict[str, Any], *, did: str) -> dict[str, Any]:
    """What the command prints: the metrics but for long lists of counts, and where the page to look at is."""
    report = ensure_report(work.store, work.run, work.job, keep=did == "nothing")
    told = {name: value for name, value in metrics.items() if name not in COUNTS}
    if (escalated := metrics.get("escalated")) and escalated["measured"]:
        measured = {name: value for name, value in escalated["measured"].items() if name not in COUNTS}
        told["escalated"] = escalated | {"measured": measured}
    return told | {"did": did, "report": report}


def _folder(paths: tuple[str, ...]) -> str:
    return paths[0].rpartition("/")[0] if paths else "features"


def _write_plan(work: Classification) -> None:
    plan = {
        "archive": work.listing.to_json(),
        "features": work.listing.parts(work.features),
        "classifier": work.training.folder,
        "classes": len(work.support.labels.space),
        "examples": len(work.support.images),
    }
    begin(work.store, work.run, work.job, plan)


def _embed(work: Classification, reporter: Reporter) -> StageReport:
    shards, images = work.to_embed()
    left = weight_left(work.support.units, work.ledger)
    known = work.listing.images
    executor, workers = choose(
        work.job.cluster, threads=work.job.clip.threads, images=images + left if known is not None else None
    )
    if not shards and not left:
        executor = LocalExecutor()
    total = None if known is None else known + sum(unit.weight for unit in work.support.units)
    step = EmbedStep(work.job.clip.spec, decode_threads=max(2, int(workers.cpus)))
    with executor, reporter.stage("embedding", total) as on_event:
        return run_stage(executor, step, work.embed_units(), work.ledger, workers, on_event)


def _label(work: Classification, classifier: str, reporter: Reporter) -> StageReport:
    images = work.listing.images
    threads = work.job.clip.threads
    executor: Executor = LocalExecutor()
    workers = Workers(count=1, overlap=1)
    if images is None or images > LABEL_HERE:
        executor, workers = choose(work.job.cluster, threads=threads, images=images)
        workers = replace(workers, overlap=1)  # Parts of a backbone are not for several threads at a time.
    step = PredictStep(work.store, classifier, work.job.clip.spec, top=work.job.classifier.top)
    with executor, reporter.stage("labelling", images) as on_event:
        return run_stage(executor, step, work.predict_units(), work.ledger, workers, on_event)
