"""Versions of a job's classifier: what they learned from, and what they predict for labelled images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from math import nan

from cluster import Store, fingerprint
from ray_jobs.classification.classify import NO_TRAINING, Classification
from ray_jobs.errors import JobError
from ray_jobs.inputs.example_blocks import Examples
from ray_jobs.inputs.examples import by_class
from ray_jobs.output.classifiers import ClassifierRef, find_classifier
from ray_jobs.output.feature_parts import FeatureRows, read_parts
from ray_jobs.registry.learned_labels import LearnedLabels
from ray_jobs.registry.moves import Version
from ray_jobs.retraining.fresh_labels import ComparedVersion, ScoredLabel

HELD_BACK = 5
"""One content in so many is held back."""


def labels_of(examples: Examples) -> LearnedLabels:
    """Return the labels of a job's examples by content; images that cannot be read are none."""
    names = examples.labels.space.names
    found: defaultdict[str, set[str]] = defaultdict(set)
    for image, label in zip(examples.labels.images, examples.labels.labels, strict=True):
        if digest := examples.digests[image]:
            found[digest].add(names[label])
    return LearnedLabels(tuple(names), {digest: tuple(sorted(given)) for digest, given in found.items()})


def version_of(
    work: Classification,
    classifier: ClassifierRef,
    twin: ClassifierRef,
    *,
    number: int,
    labels: str,
    parent: int | None,
) -> Version:
    """Return the version of a trained classifier.

    Args:
        work: the classification that it was trained for.
        classifier: the classifier.
        twin: its twin, see `Version`.
        number: of the version.
        labels: digest of the labels that it learned from.
        parent: number of the version in production.
    """
    scores = classifier.held_out_scores().correct
    return Version(
        number=number,
        classifier=classifier.name,
        folder=classifier.folder,
        twin=twin.folder,
        method=classifier.method,
        classes=classifier.classes,
        backbone=dict(classifier.clip),
        labels=labels,
        examples=classifier.examples or 0,
        held_out=classifier.held_out,
        accuracy=float(scores.mean()) if len(scores) else None,
        archive_sample=None if work.sample is None else work.sample.name,
        parent=parent,
    )


def without_held_back(examples: Examples) -> Examples:
    """Return examples without those that are held back: of each class about one content in five, but never all.

    Which ones follows from their contents alone, so a content that one version held back, another one did, too.
    """
    labels = examples.labels
    learned = {content for content in examples.contents if not is_held_back(content)}
    for group in by_class(labels):
        contents = {examples.digests[image] for image in group} - {""}
        if contents and not contents & learned:
            learned.add(max(contents))
    rows = [row for row, image in enumerate(labels.images) if examples.digests[image] in learned]
    images, classes = tuple(labels.images[row] for row in rows), tuple(labels.labels[row] for row in rows)
    kept = replace(labels, images=images, labels=classes)
    digests = {image: examples.digests[image] for image in images}
    return replace(examples, labels=kept, digests=digests, reasons={}, groups=tuple(map(tuple, by_class(kept))))


def is_held_back(content: str) -> bool:
    """Return whether the image with this digest is held back from twins."""
    return int(fingerprint(["held back", content])[:8], 16) % HELD_BACK == 0


def stored_classifier(store: Store, version: Version) -> ClassifierRef:
    """Return the classifier of a version.

    Raises:
        FileNotFoundError: it is gone.
        DamagedError: it is damaged.
    """
    found = find_classifier(store, version.folder)
    if found is None:
        raise FileNotFoundError(f"the classifier of version {version.number} is missing: {store.url(version.folder)}")
    return found


def score(
    work: Classification,
    classifier: ClassifierRef,
    learned: Collection[str],
    contents: Collection[str],
    renamed: Mapping[str, str],
) -> ComparedVersion:
    """Return what a version predicts for examples, by the digests of their contents.

    Args:
        work: a classification whose examples have the contents; their features must be there.
        classifier: of the version, trained on the backbone of the job.
        learned: digests of the images that it learned from.
        contents: digests of the images to predict; those that cannot be read are left out.
        renamed: earlier name of a class -> the name that it has now.
    """
    import torch

    from fewshot.inference.predict import predict
    from fewshot.method import PoolingClassifier, features_for
    from fewshot.problem import Labelled

    calibrated = classifier.load(work.job.clip.spec)
    rows = _features_of(work, contents, dense=isinstance(calibrated.classifier, PoolingClassifier))
    dense = None if rows.dense is None else torch.from_numpy(rows.dense)
    images = Labelled(torch.from_numpy(rows.views), torch.zeros(len(rows), dtype=torch.int64), dense)
    scored = predict(calibrated, features_for(calibrated.classifier, images), top=1)
    names = [renamed.get(name, name) for name in calibrated.class_names]
    values = scored.score.tolist() if calibrated.has_scores else [nan] * len(rows)
    found = zip(rows.images, scored.label.tolist(), values, scored.finite.tolist(), strict=True)
    predicted = {content: ScoredLabel(names[label], value) for content, label, value, is_finite in found if is_finite}
    return ComparedVersion(frozenset(names), frozenset(learned), predicted)


def _features_of(work: Classification, contents: Collection[str], *, dense: bool) -> FeatureRows:
    """Read the features of examples by content; those that could not be read are left out."""
    if work.support is None:
        raise JobError([NO_TRAINING])
    paths = work.support.find(work.store).paths
    rows = read_parts(work.store, paths, dense=dense, images=frozenset(contents))
    return rows.take([row for row, error in enumerate(rows.errors) if error is None])
