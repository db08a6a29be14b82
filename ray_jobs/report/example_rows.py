"""The features of the examples that a run learned from, with their references and classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cluster import Store
from ray_jobs.inputs.example_contents import ExampleContents
from ray_jobs.inputs.examples import Labels
from ray_jobs.output.feature_parts import view_parts


@dataclass(frozen=True, slots=True)
class ExampleRows:
    """Examples with features.

    Attributes:
        classes: K names.
        images: M references.
        labels: [M] integers in [0, K).
        features: [M, D] float64, as the encoder gave them.
    """

    classes: tuple[str, ...]
    images: tuple[str, ...]
    labels: NDArray[np.int64]
    features: NDArray[np.float64]

    def label(self, row: int) -> str:
        """Return the name of the class of an example."""
        return self.classes[int(self.labels[row])]


def read_example_rows(store: Store, parts: Sequence[str], labels: Labels) -> ExampleRows:
    """Read the features of examples, found by their contents; examples without any are left out.

    Args:
        store: the output.
        parts: of the examples' features, a row for each content.
        labels: the examples.

    Raises:
        StorageError: storage does not respond.
        JobError: parts are damaged or missing. Nothing is removed: a report only looks.
    """
    digests = {image: digest for image, digest in ExampleContents.read(labels).digests.items() if digest}
    rows = view_parts(store, parts)
    position = {content: row for row, content in enumerate(rows.images) if rows.errors[row] is None}
    pairs = sorted(set(zip(labels.images, labels.labels, strict=True)))
    found = [(name, label) for name, label in pairs if digests.get(name) in position]
    features = rows.views[[position[digests[name]] for name, _ in found], 0].astype(np.float64)
    return ExampleRows(
        classes=labels.space.names,
        images=tuple(name for name, _ in found),
        labels=np.array([label for _, label in found], np.int64),
        features=features,
    )
