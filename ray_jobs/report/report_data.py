"""The contents of a report, gathered from a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster import Store
from cluster.errors import ClusterError
from cluster.secrets import redacted
from fewshot.data.example import plain_path
from fewshot.errors import FewShotError
from ray_jobs.errors import JobError
from ray_jobs.inputs.examples import Labels, learned_ledger, support_labels
from ray_jobs.inputs.ground_truth import given_names
from ray_jobs.job_file.sections import Job
from ray_jobs.output.classifiers import open_classifier
from ray_jobs.output.layout import CLASS_TABLE, Spot
from ray_jobs.output.runs import Run, read_run, read_work
from ray_jobs.report.audit_section import find_audit
from ray_jobs.report.escalated_images import EscalatedSample, read_escalated_images
from ray_jobs.report.example_rows import read_example_rows
from ray_jobs.report.failures import Reason, read_reasons
from ray_jobs.report.image_sample import Directions, Sample, by_shard, draw_sample
from ray_jobs.report.near_copies import Copies, Leaks, find_copies, find_leaks, sampled_directions
from ray_jobs.report.odd_examples import OddExample, find_odd_examples
from ray_jobs.report.pictures import archive_pictures, example_pictures, pictures_of_examples
from ray_jobs.report.wrong_labels import Mistakes, find_mistakes
from ray_jobs.results.audit_result import AuditResult
from ray_jobs.results.classification_metrics import ClassificationMetrics
from ray_jobs.results.run_plan import RunPlan
from ray_jobs.results.run_work import RunWork

logger = logging.getLogger(__name__)
LABELS = 40
"""Labels shown, the most frequent ones."""


@dataclass(frozen=True, slots=True)
class FoundExamples:
    """What the features of the examples show.

    Attributes:
        odd: examples that look mislabelled.
        leaks: images of the archive that are copies of examples; None where they could not be compared.
        pictures: data URIs of the examples in both, as far as they could be read, by reference.
    """

    odd: tuple[OddExample, ...] = ()
    leaks: Leaks | None = None
    pictures: Mapping[str, str] = field(default_factory=dict)


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
        copies: images looked at that are nearly the same; None where their features are gone.
        found_examples: what the features of the examples show.
        audit: what people's labels of a random sample say; None without any.
        work: what its stages took; None if that was not noted. It is not the same for every run, so it has a page of
            its own, to which the report leads.
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
    copies: Copies | None = None
    found_examples: FoundExamples = FoundExamples()
    audit: AuditResult | None = None
    work: RunWork | None = None
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
    # First, while nothing else is held: it takes the most memory.
    mistakes = _mistakes(found, job, has_scores=has_scores) if metrics.measured is not None else None
    directions = _directions(found)
    sample = draw_sample(
        store,
        found.prediction_parts(),
        metrics.method,
        has_scores=has_scores,
        unknown=tested,
        directions=directions,
    )
    copies = find_copies(store, found.prediction_parts(), directions) if directions else None
    given = _labels(found, job)
    examples = FoundExamples() if given is None else _examples(found, given, metrics.images)
    some = metrics.escalated is not None and metrics.escalated.images > 0
    escalated = read_escalated_images(store, run, found.plan.features) if some else None
    groups = (sample, escalated, mistakes, copies, examples.leaks)
    wanted = by_shard(spot for group in groups if group is not None for spot in group.spots)
    return Contents(
        run=found.name,
        job=job,
        metrics=metrics,
        plan=found.plan,
        sample=sample,
        escalated=escalated,
        pictures=archive_pictures(job.archive, wanted, store.storage) if job.archive else {},
        labels=labels,
        examples={} if given is None else example_pictures(given, [name for name, _ in labels]),
        reasons=tuple(read_reasons(store, run)),
        mistakes=mistakes,
        copies=copies,
        found_examples=examples,
        audit=find_audit(store, found.name),
        work=read_work(store, run),
        has_class_pages=store.exists(f"{run}/{CLASS_TABLE}"),
    )


def _has_scores(metrics: ClassificationMetrics) -> bool:
    return metrics.held_out.calibrates or metrics.mean_score is not None


def _mistakes(run: Run, job: Job, *, has_scores: bool) -> Mistakes | None:
    """Compare the predictions with the given labels, if these can still be read, without images learned from."""
    storage = run.store.storage
    try:
        given = given_names(job.archive, storage) if job.archive is not None else None
        classes = None if run.classifier is None else open_classifier(run.classifier, storage).classes
    except (ClusterError, FewShotError, JobError) as error:
        logger.warning("report without mistakes error=%s", redacted(str(error)))
        return None
    learned = set(map(plain_path, run.plan.learned_from or ()))
    truth = {image: label for image, label in (given or {}).items() if image not in learned}
    return find_mistakes(run.store, run.prediction_parts(), truth, classes=classes, has_scores=has_scores)


def _labels(run: Run, job: Job) -> Labels | None:
    """Read which images the examples are; None if there are none, or it cannot be read any more."""
    if job.support is None:
        return None
    try:
        return support_labels(job.support, run.store.storage, ledger=learned_ledger(job, run.store))
    except (ClusterError, FewShotError, JobError, OSError) as error:
        logger.warning("report without examples error=%s", redacted(str(error)))
        return None


def _directions(run: Run) -> Directions:
    """Read the features of the images looked at, as far as they are there."""
    try:
        return sampled_directions(run)
    except JobError as error:
        logger.warning("report without near copies error=%s", redacted(str(error)))
        return {}


def _examples(run: Run, labels: Labels, images: int) -> FoundExamples:
    """Look at the examples, as far as they and their features can still be read."""
    if not run.plan.example_parts:
        return FoundExamples()
    try:
        rows = read_example_rows(run.store, run.plan.example_parts, labels)
        odd, leaks = tuple(find_odd_examples(rows)), find_leaks(run, rows, images)
    except (ClusterError, FewShotError, JobError, OSError) as error:
        logger.warning("report without odd examples error=%s", redacted(str(error)))
        return FoundExamples()
    shown = [*(example.image for example in odd), *(leak.example for leak in (leaks.shown if leaks else ()))]
    return FoundExamples(odd, leaks, pictures_of_examples(labels, [*dict.fromkeys(shown)]) if shown else {})
