"""The main job: archive in, predictions out. Run it again to resume; what is done is found and not done again.

Stages: list (examples, archive) -> embed (examples and archive, one pool of workers) -> (for methods that learn from
the archive: draw a sample of it) -> train -> label -> (with [escalate]: score the least certain images with a diffusion
model) -> report. With a stored classifier, there are no examples to embed and nothing to train.
"""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Literal

from cluster import Executor, Lease, Ledger, LocalExecutor, StageReport, Store, Unit, Workers, run_stage
from cluster.execution.executor import weight_left
from cluster.on_ray.capacity import cluster_nodes
from cluster.records import Source
from fewshot.methods.table import learns_from_archive, needs_of
from ray_jobs.audit.audited_threshold import Audited, find_audited_threshold, notice_of_new_images
from ray_jobs.classification.finished_run import Losses, find_losses
from ray_jobs.classification.label_set_plan import (
    check_pairs,
    is_long,
    label_set_plan,
    stored_with_label_sets,
    warnings_about_label_sets,
)
from ray_jobs.classification.labelled_shares import error_limit_plan, labelled_shares, shares_sentence, shortage
from ray_jobs.classification.metrics import summarise, too_many_unreadable
from ray_jobs.classification.training_warnings import warnings_about_training
from ray_jobs.classification.unknown_plan import UnknownPlan, keep_known_examples, plan_unknown
from ray_jobs.console.progress import Reporter
from ray_jobs.console.rate import IMAGES
from ray_jobs.errors import DamagedError, JobError
from ray_jobs.escalation import Escalation, escalation_identity
from ray_jobs.escalation.stages import QUERIES_PER_IMAGE
from ray_jobs.inputs.archive import Listing, archive_units, list_archive, open_archive
from ray_jobs.inputs.class_warnings import first_few
from ray_jobs.inputs.example_blocks import EmbeddedExamples, Examples
from ray_jobs.inputs.example_contents import ExampleContents
from ray_jobs.inputs.examples import by_class, learned_ledger, support_labels
from ray_jobs.inputs.ground_truth import STORED_BEFORE, learned_images, read_given_labels
from ray_jobs.inputs.unreadable_examples import SKIP, stop_at_unreadable, unreadable_summary
from ray_jobs.inputs.validation_examples import check_some_readable, read_validation, validation_labels
from ray_jobs.job_file.sections import ClipSection, Job
from ray_jobs.output.classifiers import ClassifierRef, open_classifier
from ray_jobs.output.label_set_examples import label_sets_identity
from ray_jobs.output.latest_runs import record_latest
from ray_jobs.output.layout import (
    PLAN,
    PREDICTIONS,
    dense_folder,
    examples_folder,
    features_folder,
    labels_folder,
    prediction_parts,
    present_parts,
    run_folder,
)
from ray_jobs.output.predictions import PredictionOrigin, prediction_format
from ray_jobs.output.runs import (
    Run,
    acquire_run,
    begin_run,
    read_metrics,
    read_plan,
    record_load,
    record_work,
    remove_noted_damage,
    stored_job,
    write_job_file,
)
from ray_jobs.output.work_share import classification_work
from ray_jobs.report import ensure_report
from ray_jobs.results.classification_metrics import ClassificationMetrics
from ray_jobs.results.error_limits import AuditedThreshold
from ray_jobs.results.json_format import FormatError, JsonObject, NewerFormatError
from ray_jobs.results.label_sets import LabelSetPlan
from ray_jobs.results.run_plan import PlannedWork, RunPlan
from ray_jobs.results.stage_load import StageLoad
from ray_jobs.steps.archive_sample import ArchiveSample, draw_sample, keep_sample, kept_sample, note_path, sample_of
from ray_jobs.steps.embed import EmbedStep
from ray_jobs.steps.placement import LOOKING, ListNodes, choose, entered
from ray_jobs.steps.precision import pin_revision, settle_precision
from ray_jobs.steps.predict import PredictStep
from ray_jobs.steps.set_examples import keep_examples
from ray_jobs.steps.train import Training, reasons_of

logger = logging.getLogger(__name__)

EMBEDDING_EXAMPLES, EMBEDDING, LABELLING = "embedding examples", "embedding", "labelling"
"""Titles of stages."""
LONG = ("curve", "labels", "part_bytes", "reliability", "score_histogram")
"""Metrics that are too long to be printed."""
LABEL_HERE = 200_000
"""Images up to which this process labels by itself: a matter of seconds, where starting workers costs as much."""
VALIDATION = "[support] validation"
"""The key of images that are chosen on, in errors."""
NO_TRAINING = "a stored classifier is not trained"
ESCALATE_WITHOUT_EXAMPLES = "[escalate] needs examples: add the section [support], also with [classifier] from"
NO_EXAMPLE = "[escalate] needs examples, to choose its time-steps, and [support] has class names alone: add an example"


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
        """URL of the document that lists the parts of predictions, under "predictions"."""
        return f"{self.run.url}/{PLAN}"

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
    """A classification whose inputs were read: its archive, examples and classifier, and the names of its results.

    Attributes:
        job: the job file; with a stored classifier, [clip] is the backbone it was trained on. Its precision is settled.
        store: the output.
        source: the archive.
        listing: what is in it.
        support: the examples; None where a stored classifier needs none.
        stored: the stored classifier that the job names; None if one is trained.
        nodes: lists the nodes of the job's cluster, as they were when they were first asked for.
        validation: the images to choose hyperparameters on; None chooses inside the examples.
        unknown: the test of images of no class; None tests no image.
        learned: references of the examples that the stored classifier learned from; None where that is not known.
    """

    job: Job
    store: Store
    source: Source
    listing: Listing
    support: Examples | None
    stored: ClassifierRef | None
    nodes: ListNodes
    validation: Examples | None = None
    unknown: UnknownPlan | None = None
    learned: frozenset[str] | None = None

    @classmethod
    def from_job(cls, job: Job, *, may_guess: bool = False, learned: frozenset[str] | None = None) -> Classification:
        """Read the examples and list the archive; nothing is embedded.

        Args:
            job: the job file.
            may_guess: take a cluster that does not respond for one without GPUs, where the precision depends on it.
            learned: see the attributes.

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
            stored = stored_with_label_sets(stored, job.classifier.set_error)
            job = _with_backbone_of(stored, job)
        nodes = cache(cluster_nodes)
        job = settle_precision(pin_revision(job), nodes=nodes, may_guess=may_guess)
        source, store = open_archive(archive, storage), Store(job.job.output, storage=storage)
        needs_examples = stored is None or job.escalate is not None
        support, validation = _examples(job, store, stored) if needs_examples else (None, None)
        unknown = plan_unknown(job.classifier, support, stored)
        return cls(job, store, source, list_archive(source), support, stored, nodes, validation, unknown, learned)

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
            raise JobError([NO_TRAINING])
        return replace(_training(self.job, self.support, self.validation), sample=self.sample)

    @cached_property
    def sample(self) -> ArchiveSample | None:
        """The sample of the archive that the classifier learns from; None if it learns from none."""
        section = self.job.classifier
        if self.stored is not None or self.support is None:
            return None
        if not learns_from_archive(section.method, section.hyperparameters):
            return None
        current = sample_of(self.listing, self.features, classes=len(self.support.labels.space))
        return current if section.archive_sample == "renew" else kept_sample(self.store, self.sample_note, current)

    @property
    def sample_note(self) -> str:
        """Where the sample that the training keeps is noted. Requires examples."""
        if self.support is None:
            raise JobError([NO_TRAINING])
        return note_path(_training(self.job, self.support, self.validation).identity.to_json(), self.features)

    @cached_property
    def run(self) -> str:
        """Folder of the results. Its name follows from everything that determines predictions and metrics."""
        archive = self.job.archive
        given = read_given_labels(archive, self.store.storage) if archive is not None else None
        ground_truth = None if given is None else given.identity
        identity: list[object] = [self.labels, self.listing.contents, ground_truth, self.job.classifier.confidence]
        if self.audited is not None:
            identity.append(self.audited.to_json())
        if self.job.escalate is not None and self.support is not None:
            identity += [escalation_identity(self.job.escalate), self.support.identity]
        if self.learned_from:
            identity.append(["learned from", self.learned_from])
        return run_folder(self.job.job.name, identity)

    @cached_property
    def learned_from(self) -> tuple[str, ...]:
        """Keys of images of the archive that are examples: nothing is measured with them.

        Of a stored classifier that is not of a registry nobody knows them, but a job that names a ledger of labels had
        it learn from that.
        """
        archive, section = self.job.archive, self.job.support
        if archive is None or section is None:
            return ()
        if self.support is None and self.learned is None and not section.labels:
            return ()
        if self.support is not None:
            return learned_images(self.support.labels, archive, self.source)
        ledger = learned_ledger(self.job, self.store)
        examples = support_labels(section, self.store.storage, ledger=ledger)
        if self.learned is not None:
            examples = examples.only(self.learned)
        return learned_images(examples, archive, self.source)

    @cached_property
    def labels(self) -> str:
        """Folder of what the classifier gives. A part's path follows from its features and the classifier alone."""
        section, stored = self.job.classifier, self.stored
        classifier = self.training.identity.to_json() if stored is None else ["stored", stored.identity]
        limit: list[object] | None = None if section.max_error is None else [section.max_error, section.confidence]
        if self.audited is not None:
            limit = ["audit", self.audited.threshold]
        written = prediction_format(label_sets=section.set_error is not None, unknown=self.unknown is not None)
        added = [*label_sets_identity(section.set_error), *([] if self.unknown is None else [self.unknown.identity])]
        return labels_folder([written, self.features, classifier, limit, section.top, self.origin, *added])

    @cached_property
    def audited(self) -> AuditedThreshold | None:
        """The threshold of an audit; None where the examples give it.

        Raises:
            JobError: there is no audit of this classifier.
        """
        section = self.job.classifier
        if section.max_error is None or section.max_error_from != "audit":
            return None
        wanted = Audited(
            classifier=posixpath.basename(self.classifier),
            archive=self.source.identity,
            unknown_rate=None if self.unknown is None else self.unknown.rate,
        )
        return find_audited_threshold(self.store, wanted, max_error=section.max_error, confidence=section.confidence)

    @property
    def classifier(self) -> str:
        """Folder of the classifier in the output, or its URL if it lies elsewhere."""
        return self.training.identity.folder if self.stored is None else self.stored.url

    @cached_property
    def plan(self) -> RunPlan:
        """What the run sets out to do."""
        return RunPlan(
            kind="classification",
            job=self.job.job.name,
            classes=len(self.classes),
            features=tuple(self.listing.parts(self.features)),
            archive=self.listing.summary(),
            classifier=self.classifier,
            examples=self.examples,
            max_error=self.job.classifier.max_error,
            confidence=self.job.classifier.confidence,
            example_parts=tuple(path for part in self.embedded_parts for path in part.paths),
            predictions=tuple(self.predictions),
            cheap_predictions=() if self.job.escalate is None else tuple(self.labelled_parts),
            work=self._work,
            label_set_error=self.job.classifier.set_error,
            unknown_rate=None if self.unknown is None else self.unknown.rate,
            learned_from=self.learned_from or None,
            audited=self.audited,
        )

    @property
    def stages(self) -> dict[str, float]:
        """The work of each stage, see `JobWork`."""
        work = self._work
        return {
            EMBEDDING_EXAMPLES: work.examples,
            EMBEDDING: work.archive,
            LABELLING: work.results,
            "escalating": work.escalation,
        }

    @property
    def _work(self) -> PlannedWork:
        images = self.listing.images
        section, queries = self.job.escalate, 0.0
        if section is not None:
            queries = section.max_fraction * (images or 0) * min(section.candidates, len(self.classes)) * section.steps
        return classification_work(
            examples=sum(part.weight for part in self.embedded_parts),
            images=images,
            shards=len(self.listing.shards),
            escalation=queries / QUERIES_PER_IMAGE,
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
    def label_sets(self) -> LabelSetPlan | None:
        """What label sets take; None without them."""
        if (set_error := self.job.classifier.set_error) is None:
            return None
        examples = self.examples if self.support is None else len(self.support.contents)
        if examples is None and self.stored is not None and (rule := self.stored.label_set_rule()) is not None:
            examples = len(rule.examples)
        return label_set_plan(set_error, examples=examples or 0, classes=len(self.classes), images=self.listing.images)

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user should check in the files of archive and examples, and in the training, a sentence each."""
        archive = self.job.archive
        is_named = archive is not None and archive.component is not None
        of_archive = (None if is_named else self.listing.mask_notice, self.listing.repeat_notice)
        of_examples = () if self.support is None else self.support.labels.notices
        of_test = None if self.unknown is None else self.unknown.warning
        of_audit = None
        if self.audited is not None:
            of_audit = notice_of_new_images(self.store, self.audited, self.listing.parts(self.features))
        is_measured = archive is not None and archive.labels is not None
        of_stored = STORED_BEFORE if is_measured and self.stored is not None and self.learned is None else None
        return (*filter(None, (*of_archive, of_test, of_audit, of_stored)), *of_examples, *self._training_notices())

    def _training_notices(self) -> Iterator[str]:
        if self.stored is None:
            section, examples = self.job.classifier, self.examples or 0
            yield from warnings_about_training(
                section.method, section.hyperparameters, classes=len(self.classes), examples=examples
            )

    @property
    def origin(self) -> PredictionOrigin:
        """What the metadata of the predictions state."""
        return PredictionOrigin(archive=self.source.uri, archive_kind=self.source.kind)

    def finished(self) -> ClassificationMetrics | None:
        """Return the metrics of this very run, if it is complete and nothing of it was lost since.

        Raises:
            FormatError: they, or the plan, were written by a newer version of fewshot.
        """
        try:
            metrics = self._complete_metrics()
        except NewerFormatError:
            raise
        except FormatError:
            return None
        if metrics is None or self._losses(metrics):
            return None
        many = too_many_unreadable(self.job, images=metrics.images, unreadable=metrics.unreadable)
        return replace(metrics, too_many_unreadable=many)

    def _losses(self, metrics: ClassificationMetrics) -> Losses:
        return find_losses(self.store, self.run, self.predictions, metrics)

    def remove_losses(self) -> list[str]:
        """Remove parts of other lengths than were recorded, so that they are made anew. Requires the lease on the run.

        Returns:
            what the finished run has lost, in lines; nothing for a run that has not finished.
        """
        try:
            metrics = self._complete_metrics()
        except FormatError as error:
            return [str(error)]
        losses = Losses() if metrics is None else self._losses(metrics)
        for part in losses.resized:
            self.store.delete(part)
        return losses.lines(self.store)

    def _complete_metrics(self) -> ClassificationMetrics | None:
        """Return the metrics of this run if it is complete. Raises as `read_metrics`."""
        metrics = read_metrics(self.store, self.run, "classification")
        return metrics if isinstance(metrics, ClassificationMetrics) and metrics.complete else None

    @property
    def labelled_parts(self) -> list[str]:
        """The parts of what the classifier gives, in the archive's order."""
        return prediction_parts(self.labels, self.listing.parts(self.features))

    @property
    def predictions(self) -> list[str]:
        """The parts of predictions, in the archive's order. What is escalated depends on the whole archive."""
        if self.job.escalate is None:
            return self.labelled_parts
        return prediction_parts(f"{self.run}/{PREDICTIONS}", self.labelled_parts)

    def to_embed(self) -> tuple[int, int]:
        """How many shards, and images as far as known, have no features yet."""
        return self.listing.left(self.listing.parts(self.features), self.ledger.done(self.features))

    def to_label(self) -> tuple[int, int]:
        """How many shards, and images as far as known, have no predictions yet."""
        return self.listing.left(self.labelled_parts, self.ledger.done(self.labels))

    @cached_property
    def embedded(self) -> EmbeddedExamples | None:
        """The examples with their blocks of features, those that are there and others; None for a stored classifier."""
        return self.support.find(self.store) if self.support is not None and self.stored is None else None

    @cached_property
    def embedded_parts(self) -> tuple[EmbeddedExamples, ...]:
        """The examples, and the images to choose on, with their blocks; none for a stored classifier."""
        if self.embedded is None:
            return ()
        return (self.embedded,) if self.validation is None else (self.embedded, self.validation.find(self.store))

    @property
    def example_units(self) -> tuple[Unit, ...]:
        """Units that embed the examples without features: none for a stored classifier."""
        return tuple(unit for part in self.embedded_parts for unit in part.units)

    def embed_units(self) -> Iterator[tuple[str, Iterable[Unit], tuple[int, str]]]:
        """What is embedded, with its weight. Examples first: they are few, and mistakes in them show early."""
        yield EMBEDDING_EXAMPLES, self.example_units, (sum(unit.weight for unit in self.example_units), IMAGES)
        archive = archive_units(self.source, self.features, dense=self.needs_dense)
        yield EMBEDDING, archive, self.listing.weight

    def predict_units(self) -> Iterator[Unit]:
        """One for each shard that has features."""
        done = self.ledger.done(self.features)
        features = self.listing.parts(self.features)
        for part, prediction, (_, size) in zip(features, self.labelled_parts, self.listing.shards, strict=True):
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
    return replace(job, clip=ClipSection.from_spec(spec, templates=job.clip.templates))


def _examples(job: Job, store: Store, stored: ClassifierRef | None) -> tuple[Examples, Examples | None]:
    """Read and check the examples and the images to choose on, before anything of the archive is read.

    If the output has a classifier that was trained on them, they are not decoded again.
    """
    if job.support is None:
        needed = job.classifier.from_ is not None
        raise JobError([ESCALATE_WITHOUT_EXAMPLES if needed else "classify needs the section [support]"])
    section, dense = job.support, _needs_dense(job, stored)
    labels = support_labels(section, store.storage, ledger=learned_ledger(job, store))
    _check_shares(job.classifier.hyperparameters.get("shares"), labels.space.names)
    if job.classifier.set_error is not None:
        check_pairs(examples=len(labels.images), classes=len(labels.space))
    contents = ExampleContents.read(labels)
    folder = examples_folder(job.clip.spec, job.views)
    support = Examples.from_contents(contents, labels, by_class(labels), features=folder, views=job.views, dense=dense)
    if stored is not None:
        _check_classes(stored, support)
    validation = _validation(job, support, store) if stored is None else None
    trained = _trained_before(_training(job, support, validation), store) if stored is None else None
    left_out = None if trained is None else unreadable_summary(trained.unreadable_examples)
    if trained is None or (left_out and not section.skip_unreadable):
        contents.check(skip=section.skip_unreadable)
        contents.check_labels()
    if left_out and not section.skip_unreadable:
        raise JobError([f"[support] {left_out} Remove them, or set {SKIP} to go on without them."])
    if job.escalate is not None and not support.contents:
        raise JobError([NO_EXAMPLE])
    return support, validation


def _validation(job: Job, support: Examples, store: Store) -> Examples | None:
    """Read the images to choose on; None without `support.validation`."""
    if job.support is None or (found := validation_labels(job.support, support.labels.space, store.storage)) is None:
        return None
    learned = frozenset(support.contents)
    return read_validation(found, key=VALIDATION, spec=job.clip.spec, dense=support.dense, learned=learned)


def _check_shares(shares: object, classes: tuple[str, ...]) -> None:
    """Raise JobError unless shares that are given are of classes of the examples."""
    unknown = sorted(set(shares) - set(classes)) if isinstance(shares, dict) else []
    if unknown:
        raise JobError([f"[classifier] hyperparameters.shares: the examples have no class {first_few(unknown)}"])


def _trained_before(training: Training, store: Store) -> ClassifierRef | None:
    """Return the classifier in the output; None if there is none, or its card is damaged: then it is trained anew."""
    try:
        return training.find(store)
    except DamagedError as error:
        logger.warning("%s", error)
        return None


def _training(job: Job, support: Examples, validation: Examples | None) -> Training:
    """What a classifier is trained from."""
    section, seed = job.classifier, job.support.seed if job.support else 0
    learns = "diffusion" in needs_of(section.method, section.hyperparameters)
    return Training(
        job.clip.spec,
        job.clip.templates,
        section,
        seed,
        support,
        job.diffusion.spec if learns else None,
        skip_unreadable=job.support is not None and job.support.skip_unreadable,
        validation=validation,
    )


def _check_classes(stored: ClassifierRef, support: Examples) -> None:
    """Raise JobError unless the examples are of the classes of the stored classifier."""
    names = set(support.labels.space.names)
    missing, other = sorted(set(stored.classes) - names), sorted(names - set(stored.classes))
    if missing or other:
        wrong = [f"{len(missing)} have no example ({first_few(missing)})"] if missing else []
        wrong += [f"{len(other)} are not of the classifier ({first_few(other)})"] if other else []
        raise JobError([f"[support] must have the {len(stored.classes)} classes of {stored.url}: {'; '.join(wrong)}"])


def _needs_dense(job: Job, stored: ClassifierRef | None) -> bool:
    if stored is not None:
        return "dense" in needs_of(stored.method, {})
    return "dense" in needs_of(job.classifier.method, job.classifier.hyperparameters)


def classify(job: Job, reporter: Reporter, *, learned: frozenset[str] | None = None) -> FinishedClassification:
    """Label every image of an archive.

    Args:
        job: a job file with [archive], and [support] or a stored classifier.
        reporter: shows the progress.
        learned: see `Classification`.

    Returns:
        with the metrics, which also lie in the run's folder; `metrics.complete` says whether every unit is done.

    Raises:
        JobError: the job cannot start.
        DataError: the examples are not what they should be.
        LeaseHeldError: another process is at work on this very run; nothing was done.
        ClusterError: storage or workers fail as a whole. Run again to resume.
    """
    with reporter.waiting("reading the examples and listing the archive"):
        work = Classification.from_job(job, learned=learned)
    if (metrics := work.finished()) is not None:
        reporter.say(f"nothing to do: {work.store.url(work.run)} is complete")
        _renew_places(work)
        return _finish(work, metrics, did="nothing")
    if work.stored is not None:
        with reporter.waiting("loading the stored classifier"):
            _check_loads(work.stored, work.job)
    with acquire_run(work.store, work.run, job.storage, reporter) as lease:
        if (metrics := work.finished()) is not None:  # by the process that held it before
            _renew_places(work)
            return _finish(work, metrics, did="nothing")
        _remove_damage(work, reporter)  # Before anything looks for what is there: the work of the stages does.
        with reporter.job("classify", work.stages):
            return _carry_out(work, reporter, lease)


def _renew_places(work: Classification) -> None:
    """Note where examples and labels lie now, which changes no result, but which later commands go by."""
    try:
        is_noted = stored_job(work.store, work.run).support == work.job.support
    except (JobError, ValueError):  # It is damaged, or an older version wrote it.
        is_noted = False
    if not is_noted:
        write_job_file(work.store, work.run, work.job)


def _remove_damage(work: Classification, reporter: Reporter) -> None:
    """Remove what was lost or is noted as damaged, so that it is made anew."""
    for line in work.remove_losses():
        reporter.say(line, style="yellow")
    remove_noted_damage(work.store, work.run, reporter)


def _carry_out(work: Classification, reporter: Reporter, lease: Lease) -> FinishedClassification:
    """All stages, as the only one at work on this run."""
    job = work.job
    begin_run(work.store, work.run, job, work.plan)
    for notice in work.notices:
        reporter.say(f"warning: {notice}", style="yellow")
    _warn_of_shortage(work, reporter)
    trained = embed_and_train(work, reporter)
    record_load(work.store, work.run, trained.load, reporter)
    embedding, classifier = trained.embedding, trained.classifier.with_audited_threshold(work.audited)
    if classifier.held_out and work.label_sets is None:
        reporter.say(shares_sentence(labelled_shares(classifier.held_out_scores(), classifier.confidence)))
    stages = [*embedding, _label(work, classifier, reporter)]
    escalated = None
    if job.escalate is not None:
        escalation = work.escalation(classifier.threshold())
        with escalation.open_stages(work.labelled_parts, job.cluster, reporter) as scoring:
            escalated = escalation.escalate(work.labelled_parts, scoring)
        stages += scoring.reports
    lease.check()
    with reporter.waiting("counting the predictions and writing the report"):
        predictions = work.predictions
        metrics = summarise(
            work.store,
            work.run,
            job,
            work.listing,
            predictions,
            classifier,
            stages,
            escalated,
            work.unknown,
            work.audited,
            learned_from=work.learned_from,
        )
        record_work(work.store, work.run, reporter.finished)
        found = work.embedded is not None and bool(work.embedded.found)
        did: Did = "the rest" if found or any(report.skipped for report in embedding) else "everything"
        return _finish(work, metrics, did=did)


def _warn_of_shortage(work: Classification, reporter: Reporter) -> None:
    """Say before anything is embedded that every prediction would be abstained."""
    if (sets := work.label_sets) is not None:
        counts = {} if work.support is None else work.support.labels.counts
        for warning in warnings_about_label_sets(sets, counts):
            reporter.say(f"warning: {warning}", style="yellow")
    if work.audited is not None:
        reporter.say(work.audited.sentence(), style=None if work.audited.threshold is not None else "yellow")
        return
    if work.job.classifier.max_error is None:
        return
    limit = error_limit_plan(work.job.classifier, work.support, work.stored, work.validation)
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
    plan = read_plan(work.store, work.run) if did == "nothing" else None
    run = Run(work.store, work.run, plan or work.plan, metrics)
    return FinishedClassification(run=run, metrics=metrics, did=did, report=report)


@dataclass(frozen=True, slots=True)
class Trained:
    """What the first stages of a classification made.

    Attributes:
        classifier: the one that was trained, or the stored one, with what it tests and promises.
        embedding: what became of the units that embed.
        load: how busy the workers were.
    """

    classifier: ClassifierRef
    embedding: list[StageReport]
    load: StageLoad | None


def embed_and_train(work: Classification, reporter: Reporter) -> Trained:
    """Embed examples and archive, and train the classifier, as far as that is not done; nothing is labelled.

    Raises:
        JobError: an example could not be embedded, or its features are of no use; or the archive could not be embedded
            and the classifier learns from it.
    """
    embedding, load = embed_images(work, reporter)
    _sample(work, reporter)
    classifier = _tested(work, work.stored if work.stored is not None else _train(work, reporter), reporter)
    return Trained(classifier, embedding, load)


def embed_images(work: Classification, reporter: Reporter) -> tuple[list[StageReport], StageLoad | None]:
    """Embed the examples and, if all of them are right, the archive, on one pool of workers.

    Returns:
        what became of the units, and how busy the workers were; None if nothing was embedded.

    Raises:
        JobError: an example could not be embedded, or its features are of no use.
    """
    shards, images = work.to_embed()
    left = weight_left(work.example_units, work.ledger)
    known = work.listing.images
    with reporter.waiting(LOOKING):
        executor, workers = choose(
            work.job.cluster,
            threads=work.job.clip.threads,
            images=images + left if known is not None else None,
            units=max(shards, len(work.example_units)),
            device=work.job.clip.device,
            nodes=work.nodes,
        )
    if not shards and not left:
        executor = LocalExecutor()
    step = EmbedStep.for_workers(work.job.clip.spec, workers)
    reports = []
    with entered(executor, reporter):
        for title, units, (total, counted) in work.embed_units():
            with reporter.stage(title, total, unit=counted) as on_event:
                reports.append(run_stage(executor, step, units, work.ledger, workers, on_event))
            if len(reports) == 1:
                _check_examples(work, reports[0])
    return reports, step.load(reports[1:])  # A few examples tell nothing about the archive.


def _check_examples(work: Classification, embedding: StageReport) -> None:
    """Raise JobError unless every example was embedded just now or before; those that could be skipped need not be."""
    embedded = work.embedded
    if embedded is None:
        return
    paths = [path for part in work.embedded_parts for path in part.paths]
    if len(present_parts(work.store, paths)) < len(paths):
        raise JobError([f"the examples could not be embedded: {f.path}: {f.error}" for f in embedding.failures])
    unchecked = (embedded.found or embedding.skipped) and work.training.find(work.store) is None
    if embedding.summary.get("unreadable") or unchecked:  # A report counts only new parts.
        reasons = reasons_of(embedded.read(work.store))
        stop_at_unreadable(embedded.labels, reasons, skip=work.training.skip_unreadable)
        if work.validation is not None:
            unread = reasons_of(work.validation.find(work.store).read(work.store))
            check_some_readable(work.validation.labels, unread, key=VALIDATION)


def _sample(work: Classification, reporter: Reporter) -> None:
    """Draw the sample of the archive that the classifier learns from, and keep it; without one, do nothing.

    Raises:
        JobError: shards could not be embedded, so that a later run would draw another sample, or the kept one is gone.
    """
    if (sample := work.sample) is None:
        return
    if not work.store.exists(sample.path):
        _draw(work, sample, reporter)
    keep_sample(work.store, work.sample_note, sample, renew=work.job.classifier.archive_sample == "renew")


def _draw(work: Classification, sample: ArchiveSample, reporter: Reporter) -> None:
    """Draw a sample; one that was lost after the training, only if the archive is still the same."""
    is_trained = work.training.find(work.store) is not None
    if is_trained and sample.is_kept:
        return
    shards, _ = work.to_embed()
    if shards and not sample.is_kept:
        if is_trained:
            return
        method = work.job.classifier.method
        raise JobError([f"{method} learns from the archive, and {shards} shards were not embedded; run again"])
    with reporter.waiting("drawing a sample of the archive"):
        draw_sample(work.store, sample, work.listing, work.features)


def _train(work: Classification, reporter: Reporter) -> ClassifierRef:
    """Return the trained classifier, with what its label sets take."""
    trained, set_error = _trained(work, reporter), work.job.classifier.set_error
    if set_error is not None:
        keep_examples(work.store, trained, work.training)
    return trained.with_label_sets(set_error)


def _trained(work: Classification, reporter: Reporter) -> ClassifierRef:
    if (trained := work.training.find(work.store)) is not None:
        return trained
    what = f"training {work.job.classifier.method} on {len(work.training.support.images)} examples"
    reporter.say(what)
    with reporter.doing(what):
        return work.training.fit(work.store)


def _tested(work: Classification, classifier: ClassifierRef, reporter: Reporter) -> ClassifierRef:
    """Return the classifier with the job's test of images of no class; its examples are stored if it is the job's."""
    if work.unknown is None:
        return classifier
    if work.stored is None and work.support is not None:
        with reporter.waiting("comparing the examples with each other"):
            keep_known_examples(work.store, classifier, work.support)
    return classifier.with_unknown_rate(work.unknown.rate)


def _label(work: Classification, classifier: ClassifierRef, reporter: Reporter) -> StageReport:
    images, clip = work.listing.images, work.job.clip
    executor: Executor = LocalExecutor()
    workers = Workers(count=1, overlap=1)
    if is_long(work.label_sets):
        images = None  # Many, to whoever chooses the workers.
    if images is None or images > LABEL_HERE:
        units = work.to_label()[0]
        executor, workers = choose(
            work.job.cluster, threads=clip.threads, images=images, units=units, device=clip.device
        )
        workers = replace(workers, overlap=1)  # Parts of a backbone are not for several threads at a time.
    step = PredictStep(work.store, classifier, work.job.clip.spec, top=work.job.classifier.top, origin=work.origin)
    total, counted = work.listing.weight
    with entered(executor, reporter), reporter.stage(LABELLING, total, unit=counted) as on_event:
        return run_stage(executor, step, work.predict_units(), work.ledger, workers, on_event)
