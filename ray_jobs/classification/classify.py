"""The main job: archive in, predictions out. Run it again to resume; what is done is found and not done again.

Stages: list (examples, archive) -> embed (examples and archive, one pool of workers) -> train -> label -> (with
[escalate]: score the least certain images with a diffusion model) -> report. With a stored classifier, there are no
examples to embed and nothing to train.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Literal

from cluster import Executor, Lease, Ledger, LocalExecutor, StageReport, Store, Unit, Workers, run_stage
from cluster.execution.executor import weight_left
from cluster.records import Source
from fewshot.methods.table import needs_of
from ray_jobs.classification.labelled_shares import error_limit_plan, labelled_shares, shares_sentence, shortage
from ray_jobs.classification.metrics import summarise, too_many_unreadable
from ray_jobs.console.progress import Reporter
from ray_jobs.errors import DamagedError, JobError
from ray_jobs.escalation import Escalation, escalation_identity
from ray_jobs.inputs.archive import Listing, archive_units, list_archive, open_archive
from ray_jobs.inputs.examples import LabelledUnits, read_labels, support_units
from ray_jobs.job_file.sections import ClipSection, Job
from ray_jobs.output.classifiers import ClassifierRef, open_classifier
from ray_jobs.output.latest_runs import record_latest
from ray_jobs.output.layout import (
    CHEAP_PREDICTIONS,
    PREDICTIONS,
    dense_folder,
    features_folder,
    prediction_part,
    run_folder,
)
from ray_jobs.output.predictions import PredictionOrigin, prediction_format
from ray_jobs.output.runs import Run, acquire_run, begin_run, read_metrics
from ray_jobs.report import ensure_report
from ray_jobs.results.classification_metrics import ClassificationMetrics
from ray_jobs.results.json_format import FormatError, JsonObject, NewerFormatError
from ray_jobs.results.run_plan import RunPlan
from ray_jobs.steps.embed import EmbedStep
from ray_jobs.steps.placement import choose
from ray_jobs.steps.predict import PredictStep
from ray_jobs.steps.train import Training

LONG = ("curve", "labels", "reliability", "score_histogram")
"""Metrics that are too long to be printed."""
LABEL_HERE = 200_000
"""Images up to which this process labels by itself: a matter of seconds, where starting workers costs as much."""

ESCALATE_WITHOUT_EXAMPLES = "[escalate] needs examples: add the section [support], also with [classifier] from"
FEW = 5
"""Classes that a message names."""

logger = logging.getLogger(__name__)
Did = Literal["everything", "the rest", "nothing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedClassification:
    """What `classify` comes to.

    Attributes:
        run: the run, complete or not.
        metrics: of the run.
        did: how much of it was done in this call.
        report: URL of the report; None if it could not be written.
    """

    run: Run
    metrics: ClassificationMetrics
    did: Did
    report: str | None

    @property
    def predictions(self) -> str:
        """URL of the folder of predictions."""
        return f"{self.run.url}/{PREDICTIONS}"

    def to_json(self) -> JsonObject:
        """Return what the command prints: the metrics but for long lists of counts, and where everything lies."""
        printed = _without_long(self.metrics.to_json())
        places: JsonObject = {"predictions": self.predictions, "run": self.run.url, "report": self.report}
        return printed | {"did": self.did} | places


def _without_long(values: JsonObject) -> JsonObject:
    return {
        name: _without_long(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if name not in LONG
    }


@dataclass(frozen=True)
class Classification:
    """A classification whose inputs were looked at: what there is, what it is called, what is left to do.

    Attributes:
        job: the job file; with a stored classifier, [clip] is the backbone it was trained on.
        store: the output.
        source: the archive.
        listing: what is in it.
        support: the examples; None where a stored classifier needs none.
        stored: the stored classifier that the job names; None if one is trained.
    """

    job: Job
    store: Store
    source: Source
    listing: Listing
    support: LabelledUnits | None
    stored: ClassifierRef | None

    @classmethod
    def from_job(cls, job: Job) -> Classification:
        """Look at everything a job names; nothing is embedded.

        Raises:
            JobError: [archive] or [support] is missing, or the stored classifier is, or does not fit.
            DataError: the examples are not what they should be.
            ClusterError: the archive or the output cannot be opened.
        """
        archive = job.archive
        if archive is None:
            raise JobError(["classify needs the section [archive]"])
        storage = job.storage.resolve()
        stored = open_classifier(job.classifier.from_, storage) if job.classifier.from_ is not None else None
        if stored is not None:
            stored = stored.with_max_error(job.classifier.max_error, job.classifier.confidence)
            job = _with_backbone_of(stored, job)
        source = open_archive(archive, storage)
        needs_examples = stored is None or job.escalate is not None
        support = _examples(job, dense=_needs_dense(job, stored)) if needs_examples else None
        if stored is not None and support is not None:
            _check_classes(stored, support)
        return cls(job, Store(job.job.output, storage=storage), source, list_archive(source), support, stored)

    @property
    def ledger(self) -> Ledger:
        """What is committed."""
        return Ledger(self.store)

    @property
    def needs_dense(self) -> bool:
        """Whether the classifier takes dense tokens."""
        return _needs_dense(self.job, self.stored)

    @cached_property
    def features(self) -> str:
        """Folder of the archive's features."""
        folder = features_folder(self.job.clip.spec, self.listing.place)
        return dense_folder(folder) if self.needs_dense else folder

    @cached_property
    def training(self) -> Training:
        """What the classifier is trained from.

        Raises:
            JobError: there are no examples: a stored classifier is not trained.
        """
        if self.support is None or self.stored is not None:
            raise JobError(["a stored classifier is not trained"])
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
        ground_truth = read_labels(given, storage=self.store.storage).identity if given else None
        place = [self.listing.place, self.listing.contents]
        section = self.job.classifier
        identity = [prediction_format(), self._classifier_identity, *place, section.top, ground_truth]
        identity.append([section.max_error, section.confidence])
        if self.job.escalate is not None:
            identity.append(escalation_identity(self.job.escalate))
        return run_folder(self.job.job.name, identity)

    @property
    def _classifier_identity(self) -> object:
        if self.stored is None:
            return self.training.identity.to_json()
        return ["stored", self.stored.identity, self.support.identity if self.support is not None else None]

    @cached_property
    def plan(self) -> RunPlan:
        """What the run sets out to do."""
        return RunPlan(
            kind="classification",
            job=self.job.job.name,
            classes=len(self.classes),
            features=tuple(self.listing.parts(self.features)),
            archive=self.listing.summary(),
            classifier=self.training.identity.folder if self.stored is None else self.stored.url,
            examples=self.examples,
            max_error=self.job.classifier.max_error,
            confidence=self.job.classifier.confidence,
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """The K classes."""
        if self.stored is not None:
            return self.stored.classes
        return self.training.support.labels.space.names

    @property
    def examples(self) -> int | None:
        """Number of examples that the classifier is trained from; None where a stored one does not say."""
        return self.stored.examples if self.stored is not None else len(self.training.support.images)

    @property
    def origin(self) -> PredictionOrigin:
        """What the metadata of the predictions state."""
        return PredictionOrigin(
            archive=self.source.uri,
            archive_kind=self.source.kind,
            job=self.job.job.name,
            run=self.run.rpartition("/")[2],
        )

    def finished(self) -> ClassificationMetrics | None:
        """Return the metrics of this very run, if it is complete.

        Raises:
            FormatError: they were written by a newer version of fewshot.
        """
        try:
            metrics = read_metrics(self.store, self.run, "classification")
        except NewerFormatError:
            raise
        except FormatError as error:
            logger.warning("metrics are written anew error=%s", error)
            return None
        if not isinstance(metrics, ClassificationMetrics) or not metrics.complete:
            return None
        many = too_many_unreadable(self.job, images=metrics.images, unreadable=metrics.unreadable)
        return replace(metrics, too_many_unreadable=many)

    @property
    def labelled(self) -> str:
        """Folder of what the classifier gives: the predictions, unless some images are escalated."""
        return f"{self.run}/{PREDICTIONS if self.job.escalate is None else CHEAP_PREDICTIONS}"

    @property
    def prediction_parts(self) -> list[str]:
        """The parts of what the classifier gives, in the archive's order."""
        return [prediction_part(self.labelled, index, name) for index, (name, _) in enumerate(self.listing.shards)]

    def to_embed(self) -> tuple[int, int]:
        """How many shards, and images as far as known, have no features yet."""
        return self.listing.left(self.listing.parts(self.features), self.ledger.done(self.features))

    def to_label(self) -> tuple[int, int]:
        """How many shards, and images as far as known, have no predictions yet."""
        return self.listing.left(self.prediction_parts, self.ledger.done(self.labelled))

    @property
    def example_units(self) -> tuple[Unit, ...]:
        """Units that embed the examples: none for a stored classifier."""
        return self.support.units if self.support is not None and self.stored is None else ()

    def embed_units(self) -> Iterator[Unit]:
        """Examples first: they are few, and mistakes in them show early."""
        return chain(self.example_units, archive_units(self.source, self.features, dense=self.needs_dense))

    def predict_units(self) -> Iterator[Unit]:
        """One for each shard that has features."""
        done = self.ledger.done(self.features)
        features = self.listing.parts(self.features)
        for part, prediction, (_, size) in zip(features, self.prediction_parts, self.listing.shards, strict=True):
            if part in done:
                yield Unit(prediction, part, weight=size or 1)

    def escalation(self, threshold: float | None) -> Escalation:
        """Return what [escalate] adds.

        Args:
            threshold: of the classifier.

        Raises:
            JobError: [escalate] or the examples are missing.
        """
        if self.job.escalate is None or self.support is None:
            raise JobError([ESCALATE_WITHOUT_EXAMPLES])
        section = self.job.escalate
        return Escalation(section, self.store, self.run, self.source, self.listing, self.support, threshold)


def _with_backbone_of(stored: ClassifierRef, job: Job) -> Job:
    """The job with the backbone that its stored classifier was trained on under [clip]."""
    spec = stored.backbone(job.clip_given)
    return replace(job, clip=ClipSection(**asdict(spec), templates=job.clip.templates))


def _examples(job: Job, *, dense: bool) -> LabelledUnits:
    if job.support is None:
        needed = job.classifier.from_ is not None
        raise JobError([ESCALATE_WITHOUT_EXAMPLES if needed else "classify needs the section [support]"])
    folder = features_folder(job.clip.spec, f"support-{job.views}")
    return support_units(job.support, folder, views=job.views, dense=dense, storage=job.storage.resolve())


def _check_classes(stored: ClassifierRef, support: LabelledUnits) -> None:
    """Raise JobError unless the examples are of the classes of the stored classifier."""
    names = set(support.labels.space.names)
    missing, other = sorted(set(stored.classes) - names), sorted(names - set(stored.classes))
    if missing or other:
        told = [f"{len(missing)} have no example ({', '.join(missing[:FEW])})"] if missing else []
        told += [f"{len(other)} are not of the classifier ({', '.join(other[:FEW])})"] if other else []
        raise JobError([f"[support] must have the {len(stored.classes)} classes of {stored.url}: {'; '.join(told)}"])


def _needs_dense(job: Job, stored: ClassifierRef | None) -> bool:
    if stored is not None:
        return "dense" in needs_of(stored.method, {})
    return "dense" in needs_of(job.classifier.method, job.classifier.hyperparameters)


def classify(job: Job, reporter: Reporter) -> FinishedClassification:
    """Label every image of an archive.

    Args:
        job: a job file with [archive], and [support] or a stored classifier.
        reporter: shows the progress.

    Returns:
        with the metrics, which also lie in the run's folder; `metrics.complete` says whether every unit is done.

    Raises:
        JobError: the job cannot start.
        DataError: the examples are not what they should be.
        LeaseHeldError: another process is at work on this very run; nothing was done.
        ClusterError: storage or workers fail as a whole. Run again to resume.
    """
    work = Classification.from_job(job)
    if (metrics := work.finished()) is not None:
        reporter.say(f"nothing to do: {work.store.url(work.run)} is complete")
        return _finish(work, metrics, did="nothing")
    if work.stored is not None:
        _check_loads(work.stored, work.job)
    with acquire_run(work.store, work.run, job.storage, reporter) as lease:
        if (metrics := work.finished()) is not None:  # by the process that held it before
            return _finish(work, metrics, did="nothing")
        return _carry_out(work, reporter, lease)


def _carry_out(work: Classification, reporter: Reporter, lease: Lease) -> FinishedClassification:
    """All stages, as the only one at work on this run."""
    job = work.job
    begin_run(work.store, work.run, job, work.plan)
    _warn_of_shortage(work, reporter)
    embedding = _embed(work, reporter)
    classifier = work.stored if work.stored is not None else _train(work, embedding, reporter)
    if classifier.held_out:
        reporter.say(shares_sentence(labelled_shares(classifier.held_out_scores(), classifier.confidence)))
    labelling = _label(work, classifier, reporter)
    stages = [embedding, labelling]
    escalated = None
    if job.escalate is not None:
        escalation = work.escalation(classifier.threshold())
        with escalation.open_stages(work.prediction_parts, job.cluster, reporter) as scoring:
            escalated = escalation.escalate(work.prediction_parts, scoring)
        stages += scoring.reports
    lease.check()
    metrics = summarise(work.store, work.run, job, work.listing, classifier, stages, escalated)
    return _finish(work, metrics, did="everything" if not embedding.skipped else "the rest")


def _warn_of_shortage(work: Classification, reporter: Reporter) -> None:
    """Say before anything is embedded that every prediction would be abstained."""
    if work.job.classifier.max_error is None:
        return
    limit = error_limit_plan(work.job.classifier, work.support, work.stored)
    if not limit.is_reachable:
        reporter.say(shortage(limit.max_error, limit.needed, limit.held_out, limit.least_error), style="yellow")


def _check_loads(stored: ClassifierRef, job: Job) -> None:
    """Raise JobError unless the stored classifier is whole: before anything is embedded for it."""
    try:
        stored.load(job.clip.spec)
    except (DamagedError, FileNotFoundError) as error:
        raise JobError([f"[classifier] from: {error}"]) from error


def _finish(work: Classification, metrics: ClassificationMetrics, *, did: Did) -> FinishedClassification:
    """Write the page to look at, and note the run as its job's newest."""
    report = ensure_report(work.store, work.run, work.job, keep=did == "nothing")
    if metrics.complete:
        record_latest(work.store, work.job.job.name, "classification", work.run)
    run = Run(work.store, work.run, work.plan, metrics)
    return FinishedClassification(run=run, metrics=metrics, did=did, report=report)


def _embed(work: Classification, reporter: Reporter) -> StageReport:
    shards, images = work.to_embed()
    left = weight_left(work.example_units, work.ledger)
    known = work.listing.images
    executor, workers = choose(
        work.job.cluster, threads=work.job.clip.threads, images=images + left if known is not None else None
    )
    if not shards and not left:
        executor = LocalExecutor()
    total = None if known is None else known + sum(unit.weight for unit in work.example_units)
    step = EmbedStep(work.job.clip.spec, decode_threads=max(2, int(workers.cpus)))
    with executor, reporter.stage("embedding", total) as on_event:
        return run_stage(executor, step, work.embed_units(), work.ledger, workers, on_event)


def _train(work: Classification, embedding: StageReport, reporter: Reporter) -> ClassifierRef:
    support = work.training.support
    folder = support.paths[0].rpartition("/")[0] if support.paths else "features"
    if not set(support.paths) <= work.ledger.done(folder):
        raise JobError([f"the examples could not be embedded: {f.path}: {f.error}" for f in embedding.failures])
    reporter.say(f"training {work.job.classifier.method} on {len(support.images)} examples")
    return work.training.run(work.store)


def _label(work: Classification, classifier: ClassifierRef, reporter: Reporter) -> StageReport:
    images = work.listing.images
    threads = work.job.clip.threads
    executor: Executor = LocalExecutor()
    workers = Workers(count=1, overlap=1)
    if images is None or images > LABEL_HERE:
        executor, workers = choose(work.job.cluster, threads=threads, images=images)
        workers = replace(workers, overlap=1)  # Parts of a backbone are not for several threads at a time.
    step = PredictStep(work.store, classifier, work.job.clip.spec, top=work.job.classifier.top, origin=work.origin)
    with executor, reporter.stage("labelling", images) as on_event:
        return run_stage(executor, step, work.predict_units(), work.ledger, workers, on_event)
