"""Labels that predictions are measured with, and nothing is learned from."""

from __future__ import annotations

from cluster import Storage
from cluster.storage import DEFAULT_STORAGE
from ray_jobs.support import read_labels


def read_truth(uri: str, names: tuple[str, ...], storage: Storage = DEFAULT_STORAGE) -> dict[str, int]:
    """Labels to measure with: image key -> index of its class, -1 for a class that is not in the label space."""
    truth = read_labels(uri, storage=storage)
    index = {name: i for i, name in enumerate(names)}
    classes = [index.get(name, -1) for name in truth.space.names]
    return {image: classes[label] for image, label in zip(truth.images, truth.labels, strict=True)}
