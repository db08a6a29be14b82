"""Versions of a job's classifier: what they and their twins learned from."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from cluster import Store, fingerprint
from ray_jobs.classification.classify import Classification
from ray_jobs.inputs.example_blocks import Examples
from ray_jobs.inputs.examples import by_class
from ray_jobs.output.classifiers import ClassifierRef, open_classifier
from ray_jobs.registry.learned_labels import LearnedLabels
from ray_jobs.registry.moves import Version

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


def settings_of(work: Classification) -> str:
    """Return the fingerprint of everything but the labels that decides about the classifier of a job.

    Files that were moved or renamed change nothing in it, and neither does an archive that grows, of which there is
    another sample.
    """
    left_out = ("support", "archive_sample")
    trained = {name: value for name, value in work.training.identity.to_json().items() if name not in left_out}
    return fingerprint([trained, work.job.views])


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
        settings=settings_of(work),
        examples=classifier.examples or 0,
        held_out=classifier.held_out,
        accuracy=float(scores.mean()) if len(scores) else None,
        archive_sample=None if work.sample is None else work.sample.name,
        parent=parent,
    )


def twin_contents(labels: LearnedLabels) -> frozenset[str]:
    """Return the contents that the twin of a version learned from: of each class about four in five, and at least one.

    Which ones follows from their contents alone, so a content that one version held back, another one did, too.
    """
    learned = {content for content in labels.of_content if not is_held_back(content)}
    of_class: defaultdict[str, set[str]] = defaultdict(set)
    for content, names in labels.of_content.items():
        for name in names:
            of_class[name].add(content)
    return frozenset(learned | {max(contents) for contents in of_class.values() if not contents & learned})


def for_twin(examples: Examples) -> Examples:
    """Return the examples that a twin learns from, see `twin_contents`."""
    labels, learned = examples.labels, twin_contents(labels_of(examples))
    rows = [row for row, image in enumerate(labels.images) if examples.digests[image] in learned]
    images, classes = tuple(labels.images[row] for row in rows), tuple(labels.labels[row] for row in rows)
    kept = replace(labels, images=images, labels=classes)
    digests = {image: examples.digests[image] for image in images}
    return replace(examples, labels=kept, digests=digests, reasons={}, groups=tuple(map(tuple, by_class(kept))))


def is_held_back(content: str) -> bool:
    """Return whether the image with this digest is held back from twins."""
    return int(fingerprint(["held back", content])[:8], 16) % HELD_BACK == 0


def stored_classifier(store: Store, version: Version) -> ClassifierRef:
    """Return the classifier of a version; it is never changed, also if it is damaged.

    Raises:
        JobError: it is gone, or damaged.
    """
    return open_classifier(store.url(version.folder), store.storage)
