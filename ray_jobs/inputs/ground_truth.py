"""Ground-truth labels: predictions are measured against them, and nothing is trained on them."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from cluster import Storage
from cluster.storage.settings import DEFAULT_STORAGE
from fewshot.data import SplitChoice
from fewshot.data.example import plain_path
from fewshot.errors import DataError
from ray_jobs.inputs.example_tables import LabelOptions
from ray_jobs.inputs.examples import Labels, read_labels
from ray_jobs.job_file.sections import ArchiveSection
from ray_jobs.results.classification_metrics import GivenLabels


def read_given_labels(section: ArchiveSection, storage: Storage = DEFAULT_STORAGE) -> Labels | None:
    """Read the labels of an archive; None if none are given.

    Args:
        section: names a table of image,label, a splits.json, or a folder per class.
        storage: how S3 is reached.

    Raises:
        DataError: it is none of these, or has several splits and none was chosen.
        ClusterError: it cannot be read.
    """
    if not section.labels:
        return None
    choice = SplitChoice(section.labels_split, "archive.labels_split")
    folder = posixpath.dirname(section.labels) or "."  # Of no use: keys are compared, and no image is read.
    options = LabelOptions(split=choice, default_split=None, images=folder)
    labels = read_labels(section.labels, options=options, storage=storage)
    if labels.image_column is not None:
        raise DataError(
            f"{section.labels} holds images (column {labels.image_column!r}); expected a table with the keys of images,"
            " as they appear in the predictions, and their labels"
        )
    return labels


def read_ground_truth(
    section: ArchiveSection, names: tuple[str, ...], storage: Storage = DEFAULT_STORAGE
) -> dict[str, int] | None:
    """Read labels to measure against.

    Args:
        section: the archive.
        names: the K classes.
        storage: how S3 is reached.

    Returns:
        image key, as `plain_path` writes it, -> index of its class, -1 for a class that is not among the K; None if no
        labels are given.

    Raises:
        DataError, ClusterError: see `read_given_labels`.
    """
    labels = read_given_labels(section, storage)
    if labels is None:
        return None
    index = {name: i for i, name in enumerate(names)}
    classes = [index.get(name, -1) for name in labels.space.names]
    return {image: classes[label] for image, label in zip(_keys(labels.images), labels.labels, strict=True)}


def given_names(section: ArchiveSection, storage: Storage = DEFAULT_STORAGE) -> dict[str, str]:
    """Read labels as names, of whatever classes; none if none are given. Raises as `read_given_labels`.

    Returns:
        image key, as `plain_path` writes it, -> name of its class.
    """
    labels = read_given_labels(section, storage)
    if labels is None:
        return {}
    names = labels.space.names
    return {image: names[label] for image, label in zip(_keys(labels.images), labels.labels, strict=True)}


def _keys(images: Sequence[str]) -> Sequence[str]:
    """Return keys with slashes for the backslashes of a table that was made on Windows: one with no slash in it.

    A backslash can also be part of a key, where it escapes a character that cannot be shown.
    """
    if any("/" in image for image in images):
        return images
    return [plain_path(image.replace("\\", "/")) for image in images]


def unused_labels(given: GivenLabels | None, *, is_tested: bool = False) -> list[str]:
    """Say why given labels are not measured with, a sentence each; none where all are, or none were given.

    Args:
        given: the labels.
        is_tested: whether images were tested for being of no class, which labels of other classes measure.
    """
    if given is None:
        return []
    reasons = []
    if (unmatched := given.given - given.found) > 0:
        reasons.append(
            f"{unmatched} of {given.given} ground-truth labels match no image; use the image keys as they appear in the"
            " predictions."
        )
    if given.of_other_classes and not is_tested:
        reasons.append(
            f"{given.of_other_classes} ground-truth labels are of classes that the classifier does not have; their"
            " images are not measured."
        )
    return reasons
