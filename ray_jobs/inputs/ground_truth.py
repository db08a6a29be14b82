"""Labels that predictions are measured with, and nothing is learned from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster import Storage
from cluster.storage.settings import DEFAULT_STORAGE
from ray_jobs.inputs.examples import read_labels


def read_truth(uri: str, names: tuple[str, ...], storage: Storage = DEFAULT_STORAGE) -> dict[str, int]:
    """Labels to measure with: image key -> index of its class, -1 for a class that is not in the label space."""
    truth = read_labels(uri, storage=storage)
    index = {name: i for i, name in enumerate(names)}
    classes = [index.get(name, -1) for name in truth.space.names]
    return {image: classes[label] for image, label in zip(truth.images, truth.labels, strict=True)}


def unused_labels(metrics: Mapping[str, Any]) -> list[str]:
    """Why given labels play no part in what was measured, a sentence each; none where all do, or none were given."""
    if not (given := metrics.get("given_labels")):
        return []
    reasons = []
    if (lost := given["given"] - given["found"]) > 0:
        reasons.append(
            f"{lost} of the {given['given']} labels given are of no image of the archive: images must be called there "
            "as they are in the predictions."
        )
    if given["of_other_classes"]:
        reasons.append(
            f"{given['of_other_classes']} of the labels given are of classes that the job does not know; their images "
            "are not in what was measured."
        )
    return reasons
