"""Results of earlier jobs from Python: runs and classifiers, found by where they are stored."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ray_jobs.interface.jobs import as_place

if TYPE_CHECKING:
    from cluster import Storage
    from ray_jobs.interface.stored_classifier import StoredClassifier
    from ray_jobs.output.classifiers import ClassifierRef
    from ray_jobs.output.runs import Run
    from ray_jobs.results.run_plan import RunKind


def open_run(
    url: str | os.PathLike[str], *, job: str | None = None, kind: RunKind | None = None, storage: Storage | None = None
) -> Run:
    """Open a run, complete or not.

    Args:
        url: path or URL of a run's folder, or of an output: then its newest complete run.
        job: name of the job, where an output has several.
        kind: "classification" or "evaluation", where an output has both.
        storage: how S3 is reached; None follows the environment.

    Returns:
        The run: `predictions()`, `metrics`, `report`, `is_complete`.

    Raises:
        TypeError: `url` is no path or URL.
        JobError: there is no such run, there are several, or its files are damaged or from a newer version.
        StorageError: storage does not answer.
    """
    from cluster.storage.settings import DEFAULT_STORAGE
    from ray_jobs.output.runs import open_run as open_stored

    return open_stored(as_place("url", url), job=job, kind=kind, storage=storage or DEFAULT_STORAGE)


def load_classifier(
    url: str | os.PathLike[str],
    *,
    max_error: float | None = None,
    confidence: float = 0.9,
    label_set_error: float | None = None,
    unknown_rate: float | None = None,
    storage: Storage | None = None,
) -> StoredClassifier:
    """Load a trained classifier with its backbone into this process.

    Args:
        url: path or URL of a classifier's folder, of a run's folder, or of an output: then the classifier of its newest
            complete run.
        max_error: largest tolerated share of wrong labels among the labels given, in (0, 1); None takes that of the
            run, and gives every image a label if `url` is a classifier's folder.
        confidence: probability with which `max_error` holds, in (0, 1); used only if `max_error` is given.
        label_set_error: probability with which a label set may lack the true label, in (0, 1); not with `max_error`.
            None takes that of the run, unless `max_error` is given, and makes no label sets if `url` is a classifier's
            folder. A job with `guarantee` must have run, which keeps the examples beside the classifier.
        unknown_rate: largest share of images of the classes that may be called unknown, in (0, 1); None takes that of
            the run, and tests no image if `url` is a classifier's folder.
        storage: how S3 is reached; None follows the environment.

    Returns:
        The classifier: `predict(images)`, `classes`, `method`, `threshold`.

    Raises:
        TypeError: `url` is no path or URL.
        JobError: there is none, it is damaged, or the CLIP that it was trained on is not to be had; or `max_error`,
            `confidence`, `label_set_error` or `unknown_rate` is out of range, or two promises are given; or there are
            no examples for label sets or the test of unknown images.
        StorageError: storage does not answer.
    """
    from cluster.storage.settings import DEFAULT_STORAGE
    from fewshot.backbones import load_backbone
    from fewshot.errors import DataError
    from ray_jobs.classification.unknown_plan import check_known_examples
    from ray_jobs.errors import DamagedError, JobError
    from ray_jobs.interface.stored_classifier import StoredClassifier
    from ray_jobs.job_file.sections import TWO_PROMISES

    place, storage = as_place("url", url), storage or DEFAULT_STORAGE
    ref = _find_classifier(place, storage)
    if max_error is not None and label_set_error is not None:
        raise JobError([TWO_PROMISES])
    if max_error is not None or label_set_error is not None:
        ref = ref.with_max_error(max_error, confidence).with_label_sets(label_set_error)
    if unknown_rate is not None:
        ref = ref.with_unknown_rate(unknown_rate)
    if ref.unknown_rate is not None:
        check_known_examples(ref)
    spec = ref.backbone(None)
    try:
        calibrated, rule, test = ref.load(spec), ref.label_set_rule(), ref.unknown_test()
    except (DamagedError, DataError) as error:
        raise JobError([str(error)]) from error
    return StoredClassifier(calibrated, load_backbone(spec), storage, label_set_rule=rule, unknown_test=test)


def _find_classifier(place: str, storage: Storage) -> ClassifierRef:
    """The classifier in a folder, or that of a run.

    Raises:
        JobError: there is none; if the place is no run either, the message is about a classifier's folder.
    """
    from ray_jobs.errors import JobError
    from ray_jobs.output.classifiers import open_classifier
    from ray_jobs.output.runs import open_run as open_stored

    try:
        return open_classifier(place, storage)
    except JobError as no_classifier:
        try:
            run = open_stored(place, kind="classification", storage=storage)
        except JobError as no_run:
            raise JobError([*no_classifier.problems, *no_run.problems]) from None
        if run.classifier is None:
            raise no_classifier from None
        found = open_classifier(run.classifier, storage)
        found = found.with_max_error(run.plan.max_error, run.plan.confidence)
        found = found.with_audited_threshold(run.plan.audited)
        found = found.with_label_sets(run.plan.label_set_error)
        return found.with_unknown_rate(run.plan.unknown_rate)
