"""Ground-truth labels: predictions are measured against them, and nothing is trained on them."""

from __future__ import annotations

from cluster import Storage
from cluster.storage.settings import DEFAULT_STORAGE
from ray_jobs.inputs.examples import read_labels
from ray_jobs.results.classification_metrics import GivenLabels


def read_ground_truth(uri: str, names: tuple[str, ...], storage: Storage = DEFAULT_STORAGE) -> dict[str, int]:
    """Read labels to measure against.

    Args:
        uri: a table of image,label.
        names: the K classes.
        storage: how S3 is reached.

    Returns:
        image key -> index of its class, -1 for a class that is not among the K.
    """
    labels = read_labels(uri, storage=storage)
    index = {name: i for i, name in enumerate(names)}
    classes = [index.get(name, -1) for name in labels.space.names]
    return {image: classes[label] for image, label in zip(labels.images, labels.labels, strict=True)}


def unused_labels(given: GivenLabels | None) -> list[str]:
    """Say why given labels are not measured with, a sentence each; none where all are, or none were given."""
    if given is None:
        return []
    reasons = []
    if (unmatched := given.given - given.found) > 0:
        reasons.append(
            f"{unmatched} of {given.given} ground-truth labels match no image; use the image keys as they appear in the"
            " predictions."
        )
    if given.of_other_classes:
        reasons.append(
            f"{given.of_other_classes} ground-truth labels are of classes that the classifier does not have; their"
            " images are not measured."
        )
    return reasons
