"""What versions predict for labelled images, each from features of the backbone that it was trained on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from math import nan

from cluster import Ledger, fingerprint, run_stage
from cluster.execution.executor import weight_left
from fewshot.backbones import ClipSpec
from fewshot.methods.table import needs_of
from ray_jobs.classification.classify import EMBEDDING_EXAMPLES, NO_TRAINING, Classification
from ray_jobs.console.progress import Reporter
from ray_jobs.console.rate import IMAGES
from ray_jobs.errors import JobError
from ray_jobs.inputs.example_blocks import EmbeddedExamples, Examples
from ray_jobs.output.classifiers import ClassifierRef
from ray_jobs.output.feature_parts import FeatureRows, read_parts
from ray_jobs.output.layout import dense_folder, examples_folder, present_parts
from ray_jobs.registry.moves import Version
from ray_jobs.retraining.fresh_labels import ComparedVersion, ScoredLabel
from ray_jobs.retraining.versions import stored_classifier
from ray_jobs.steps.embed import EmbedStep
from ray_jobs.steps.placement import LOOKING, choose, entered


def predict_examples(
    work: Classification,
    version: Version,
    learned: Collection[str],
    renamed: Mapping[str, str],
    reporter: Reporter,
) -> ComparedVersion:
    """Return what a version predicts for the examples of a job, by the digests of their contents.

    Examples are embedded with the version's backbone, as far as that is not done.

    Args:
        work: a classification whose examples are predicted; those that cannot be read are left out.
        version: with the folder of the classifier or of its twin.
        learned: digests of the images that it learned from.
        renamed: earlier name of a class -> the name that it has now.
        reporter: shows the progress.

    Raises:
        JobError: the backbone is not to be had here, or examples could not be embedded.
        FileNotFoundError, DamagedError: the classifier is gone, or damaged.
    """
    import torch

    from fewshot.inference.predict import predict
    from fewshot.method import PoolingClassifier, features_for
    from fewshot.problem import Labelled

    classifier = stored_classifier(work.store, version)
    spec, examples = _examples_for(work, classifier)
    embedded = examples.find(work.store)
    _embed(work, spec, embedded, reporter)
    rows = _read(work, embedded)
    calibrated = classifier.load(spec)
    if examples.dense != isinstance(calibrated.classifier, PoolingClassifier):
        raise JobError([f"the classifier {classifier.url} needs other features than its method {classifier.method}"])
    dense = None if rows.dense is None else torch.from_numpy(rows.dense)
    images = Labelled(torch.from_numpy(rows.views[:, :1]), torch.zeros(len(rows), dtype=torch.int64), dense)
    scored = predict(calibrated, features_for(calibrated.classifier, images), top=1)
    names = [renamed.get(name, name) for name in calibrated.class_names]
    values = scored.score.tolist() if calibrated.has_scores else [nan] * len(rows)
    found = zip(rows.images, scored.label.tolist(), values, scored.finite.tolist(), strict=True)
    predicted = {content: ScoredLabel(names[label], value) for content, label, value, is_finite in found if is_finite}
    return ComparedVersion(frozenset(names), frozenset(learned), predicted)


def _examples_for(work: Classification, classifier: ClassifierRef) -> tuple[ClipSpec, Examples]:
    """The job's examples, with the features that a classifier takes, and the backbone that makes these."""
    if work.support is None:
        raise JobError([NO_TRAINING])
    is_same = work.job.clip.spec.identity() == dict(classifier.clip)
    dense = "dense" in needs_of(classifier.method, {})
    if is_same and dense == work.support.dense:
        return work.job.clip.spec, work.support
    spec = work.job.clip.spec if is_same else classifier.backbone(None)
    views = work.job.views if is_same else 0
    folder = examples_folder(spec, views)
    recipe = fingerprint([folder, views])
    found = replace(work.support, recipe=recipe, views=views, dense=dense)
    return spec, replace(found, folder=dense_folder(folder) if dense else folder)


def _embed(work: Classification, spec: ClipSpec, examples: EmbeddedExamples, reporter: Reporter) -> None:
    """Embed the examples without features; the archive is left alone."""
    if not examples.units:
        return
    ledger, total = Ledger(work.store), sum(unit.weight for unit in examples.units)
    with reporter.waiting(LOOKING):
        executor, workers = choose(
            work.job.cluster,
            threads=spec.threads,
            images=weight_left(examples.units, ledger),
            units=len(examples.units),
            device=work.job.clip.device,
            nodes=work.nodes,
        )
    step = EmbedStep.for_workers(spec, workers)
    with entered(executor, reporter), reporter.stage(EMBEDDING_EXAMPLES, total, unit=IMAGES) as on_event:
        report = run_stage(executor, step, examples.units, ledger, workers, on_event)
    if len(present_parts(work.store, examples.paths)) < len(examples.paths):
        raise JobError([f"the examples could not be embedded: {f.path}: {f.error}" for f in report.failures])


def _read(work: Classification, embedded: EmbeddedExamples) -> FeatureRows:
    """Read the features of the examples by content; those that could not be read are left out."""
    examples = embedded.examples
    rows = read_parts(work.store, embedded.paths, dense=examples.dense, images=frozenset(examples.contents))
    return rows.take([row for row, error in enumerate(rows.errors) if error is None])
