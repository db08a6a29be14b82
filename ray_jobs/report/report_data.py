"""The contents of a report, gathered from a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster import Store
from cluster.errors import ClusterError
from cluster.secrets import redacted
from fewshot.errors import FewShotError
from ray_jobs.errors import JobError
from ray_jobs.inputs.examples import ledger_of, support_labels
from ray_jobs.inputs.ground_truth import given_names
from ray_jobs.job_file.sections import Job
from ray_jobs.output.classifiers import open_classifier
from ray_jobs.output.layout import CLASS_TABLE
from ray_jobs.output.runs import Run, read_run
from ray_jobs.report.audit_section import find_audit
from ray_jobs.report.escalated_images import EscalatedSample, read_escalated_images
from ray_jobs.report.failures import Reason, read_reasons
from ray_jobs.report.image_sample import Sample, Spot, by_shard, draw_sample
from ray_jobs.report.odd_examples import OddExample, find_odd_examples
from ray_jobs.report.pictures import archive_pictures, example_pictures, pictures_of_examples
from ray_jobs.report.wrong_labels import Mistakes, find_mistakes
from ray_jobs.results.audit_result import AuditResult
from ray_jobs.results.classification_metrics import ClassificationMetrics
from ray_jobs.results.run_plan import RunPlan

logger = logging.getLogger(__name__)
LABELS = 40
"""Labels shown, the most frequent ones."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents of a report.

    Attributes:
        run: the run's name.
        job: the job.
        metrics: of the run.
        plan: of the run.
        sample: images of the archive.
        escalated: escalated images; None without any.
        pictures: data URIs of the images that could be read again.
        labels: the most frequent labels with their counts.
        examples: data URIs of one example of each of these labels, where one could be read.
        reasons: reasons why images could not be read.
        mistakes: where predictions differ from given labels; None where none were given.
        odd_examples: examples that look mislabelled.
        odd_pictures: data URIs of these that could be read, by reference.
        audit: what people's labels of a random sample say; None without any.
        has_class_pages: whether the pages of the classes lie beside the report.
    """

    run: str
    job: Job
    metrics: ClassificationMetrics
    plan: RunPlan
    sample: Sample
    escalated: EscalatedSample | None
    pictures: Mapping[Spot, str]
    labels: tuple[tuple[str, int], ...]
    examples: Mapping[str, str]
    reasons: tuple[Reason, ...]
    mistakes: Mistakes | None = None
    odd_examples: tuple[OddExample, ...] = ()
    odd_pictures: Mapping[str, str] = field(default_factory=dict)
    audit: AuditResult | None = None
    has_class_pages: bool = False

    @property
    def has_scores(self) -> bool:
        """Whether the classifier gives scores."""
        return _has_scores(self.metrics)


def gather(store: Store, run: str, job: Job) -> Contents:
    """Gather the contents of a report: metrics, images from a few parts of predictions, and pictures.

    Raises:
        FileNotFoundError: the run is not finished, or no classification.
        FormatError: its plan or metrics cannot be read.
        StorageError: the output does not respond. An archive that does not only costs the pictures.
    """
    found = read_run(store, run)
    if found is None or not isinstance(metrics := found.metrics, ClassificationMetrics):
        raise FileNotFoundError(f"{store.url(run)} is no finished classification")
    labels = tuple(metrics.labels.items())[:LABELS]
    has_scores = _has_scores(metrics)
    tested = metrics.unknown is not None
    sample = draw_sample(store, found.prediction_parts(), metrics.method, has_scores=has_scores, unknown=tested)
    some = metrics.escalated is not None and metrics.escalated.images > 0
    escalated = read_escalated_images(store, run, found.plan.features) if some else None
    mistakes = _mistakes(found, job, has_scores=has_scores) if metrics.measured is not None else None
    shown = (*(escalated.spots if escalated else ()), *(mistakes.spots if mistakes else ()))
    wanted = by_shard([*sample.spots, *shown])
    odd, odd_pictures = _odd_examples(found, job)
    return Contents(
        run=found.name,
        job=job,
        metrics=metrics,
        plan=found.plan,
        sample=sample,
        escalated=escalated,
        pictures=archive_pictures(job.archive, wanted, store.storage) if job.archive else {},
        labels=labels,
        examples=example_pictures(job, [name for name, _ in labels], store.storage),
        reasons=tuple(read_reasons(store, run)),
        mistakes=mistakes,
        odd_examples=odd,
        odd_pictures=odd_pictures,
        audit=find_audit(store, found.name),
        has_class_pages=store.exists(f"{run}/{CLASS_TABLE}"),
    )


def _has_scores(metrics: ClassificationMetrics) -> bool:
    return metrics.held_out.calibrates or metrics.mean_score is not None


def _mistakes(run: Run, job: Job, *, has_scores: bool) -> Mistakes | None:
    """Compare the predictions with the given labels, if these can still be read."""
    storage = run.store.storage
    try:
        truth = given_names(job.archive, storage) if job.archive is not None else {}
        classes = None if run.classifier is None else open_classifier(run.classifier, storage).classes
    except (ClusterError, FewShotError, JobError) as error:
        logger.warning("report without mistakes error=%s", redacted(str(error)))
        return None
    return find_mistakes(run.store, run.prediction_parts(), truth, classes=classes, has_scores=has_scores)


def _odd_examples(run: Run, job: Job) -> tuple[tuple[OddExample, ...], dict[str, str]]:
    """Find examples that look mislabelled, with their pictures, as far as the examples can still be read."""
    if job.support is None or not run.plan.example_parts:
        return (), {}
    try:
        labels = support_labels(job.support, run.store.storage, ledger=ledger_of(job))
        odd = find_odd_examples(run.store, run.plan.example_parts, labels)
    except (ClusterError, FewShotError, JobError, OSError) as error:
        logger.warning("report without odd examples error=%s", redacted(str(error)))
        return (), {}
    return tuple(odd), pictures_of_examples(labels, [example.image for example in odd]) if odd else {}
