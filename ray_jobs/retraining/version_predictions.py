"""What versions predict for labelled images, each from features of the backbone that it was trained on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import nan

from cluster import Ledger, fingerprint, run_stage
from cluster.execution.executor import weight_left
from fewshot.backbones import ClipSpec
from fewshot.methods.table import needs_of
from ray_jobs.classification.classify import EMBEDDING_EXAMPLES, NO_TRAINING, Classification
from ray_jobs.console.progress import Reporter
from ray_jobs.console.rate import IMAGES
from ray_jobs.errors import DamagedError, JobError
from ray_jobs.inputs.example_blocks import EmbeddedExamples, Examples
from ray_jobs.output.classifiers import ClassifierRef
from ray_jobs.output.feature_parts import FeatureRows, read_parts
from ray_jobs.output.layout import dense_folder, examples_folder, present_parts
from ray_jobs.registry.moves import Version
from ray_jobs.retraining.fresh_labels import ComparedVersion, ScoredLabel
from ray_jobs.retraining.versions import stored_classifier
from ray_jobs.steps.embed import EmbedStep
from ray_jobs.steps.placement import LOOKING, choose, entered


@dataclass
class VersionPredictions:
    """Predicts examples by versions, and keeps the features that it has read.

    Attributes:
        work: a classification whose examples are predicted.
        reporter: shows the progress.
    """

    work: Classification
    reporter: Reporter
    _rows: dict[str, FeatureRows] = field(default_factory=dict)

    def predict(
        self, version: Version, learned: Collection[str], renamed: Mapping[str, str], contents: Collection[str]
    ) -> ComparedVersion:
        """Return what a version predicts for examples, by the digests of their contents.

        Examples are embedded with the version's backbone, as far as that is not done.

        Args:
            version: with the folder of the classifier or of its twin.
            learned: digests of the images that it learned from.
            renamed: earlier name of a class -> the name that it has now.
            contents: digests of the examples to predict; those that cannot be read are left out.

        Raises:
            JobError: the classifier is gone or damaged, its backbone is not to be had here, or examples could not be
                embedded.
        """
        import torch

        from fewshot.inference.predict import predict
        from fewshot.method import PoolingClassifier, features_for
        from fewshot.problem import Labelled

        with _as_job_error(version):
            classifier = stored_classifier(self.work.store, version)
        spec, examples = _examples_for(self.work, classifier)
        rows = self._features(spec, examples)
        rows = rows.take([row for row, content in enumerate(rows.images) if content in contents])
        with _as_job_error(version):
            calibrated = classifier.load(spec)
        if examples.dense != isinstance(calibrated.classifier, PoolingClassifier):
            raise JobError([f"{classifier.url} takes other features than its method {classifier.method}"])
        dense = None if rows.dense is None else torch.from_numpy(rows.dense)
        images = Labelled(torch.from_numpy(rows.views[:, :1]), torch.zeros(len(rows), dtype=torch.int64), dense)
        scored = predict(calibrated, features_for(calibrated.classifier, images))
        names = [renamed.get(name, name) for name in calibrated.class_names]
        scores = scored.top_scores if calibrated.has_scores else torch.full_like(scored.top_scores, nan)
        found = zip(rows.images, scored.top_labels.tolist(), scores.tolist(), scored.finite.tolist(), strict=True)
        predicted = {
            content: _scored_label([names[label] for label in labels], values)
            for content, labels, values, is_finite in found
            if is_finite
        }
        return ComparedVersion(frozenset(names), learned, predicted)

    def _features(self, spec: ClipSpec, examples: Examples) -> FeatureRows:
        """Features of all examples that could be read."""
        if examples.recipe + examples.folder not in self._rows:
            embedded = examples.find(self.work.store)
            _embed(self.work, spec, embedded, self.reporter)
            contents = frozenset(examples.contents)
            rows = read_parts(self.work.store, embedded.paths, dense=examples.dense, images=contents)
            rows = rows.take([row for row, error in enumerate(rows.errors) if error is None])
            self._rows[examples.recipe + examples.folder] = replace(rows, views=rows.views[:, :1])
        return self._rows[examples.recipe + examples.folder]


@contextmanager
def _as_job_error(version: Version) -> Iterator[None]:
    """Raise JobError where the classifier of a version is gone or damaged, and say what to do."""
    try:
        yield
    except (FileNotFoundError, DamagedError) as error:
        advice = "Restore it from a copy, or go without it: fewshot registry reject, or rollback"
        raise JobError([f"a classifier of version {version.number} cannot be read: {error}. {advice}."]) from error


def _scored_label(classes: Sequence[str], scores: Sequence[float]) -> ScoredLabel:
    return ScoredLabel(classes[0], scores[0], tuple(zip(classes[1:], scores[1:], strict=True)))


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
