"""Images that have labels, with their features: the examples of a job, and images of the archive in the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cluster.errors import ClusterError
from fewshot.errors import FewShotError
from fewshot.suggestion import LabelledRows
from ray_jobs.errors import JobError
from ray_jobs.inputs.example_contents import ExampleContents
from ray_jobs.inputs.examples import learned_ledger, support_labels
from ray_jobs.labels import LabelEvent, ledger_of_run
from ray_jobs.output.feature_parts import view_parts
from ray_jobs.suggestion.embedded_run import EmbeddedRun, unit_rows

NO_CLASS = "its labels do not count as covered, and no rare class is looked for"


@dataclass(slots=True)
class CoveredImages:
    """Images with labels.

    Attributes:
        classes: the index of each class that occurs in a label or a prediction; it grows.
        features: [1, D] float32 unit rows, one each.
        labels: their classes; None for images of no class.
    """

    classes: dict[str, int] = field(default_factory=dict)
    features: list[NDArray[np.float32]] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)

    def add(self, row: NDArray[np.float32], label: str | None) -> None:
        """Add an image with features [D] float32, a unit row."""
        self.features.append(row[None])
        self.labels.append(label)

    def index(self, label: str | None) -> int:
        """Return the index of a class; -1 for None."""
        return -1 if label is None else self.classes.setdefault(label, len(self.classes))

    def rows(self, dim: int) -> LabelledRows:
        """Return all of them, with D = `dim` if there are none.

        Equal images are one, as an image of the archive that was learned from is; it has the label that came last.
        """
        unique = {row.tobytes(): (row, label) for row, label in zip(self.features, self.labels, strict=True)}
        features = [row for row, _ in unique.values()]
        labels = np.array([self.index(label) for _, label in unique.values()], np.int64)
        rows = np.concatenate(features) if features else np.zeros((0, dim), np.float32)
        return LabelledRows(rows, labels, len(self.classes))


def read_answers(embedded: EmbeddedRun, archive: str) -> Mapping[str, LabelEvent]:
    """Read the answers that people gave to images of the archive, by key.

    Args:
        embedded: the run.
        archive: identity of the archive.

    Raises:
        JobError: a batch of the ledger is damaged.
        StorageError: storage does not respond.
    """
    return ledger_of_run(embedded.job, embedded.store).current().of_archive(archive)


def add_examples(covered: CoveredImages, embedded: EmbeddedRun) -> str | None:
    """Add the examples of a job, found by their contents among the features of the run.

    Returns:
        a sentence for the user if they cannot be read any more; None if all is well.

    Raises:
        StorageError: storage does not respond.
    """
    section, parts = embedded.job.support, embedded.run.plan.example_parts
    if section is None or not parts:
        return None
    try:
        ledger = learned_ledger(embedded.job, embedded.store)
        labels = support_labels(section, embedded.store.storage, ledger=ledger)
        digests = ExampleContents.read(labels).digests
    except (ClusterError, FewShotError, JobError, OSError) as error:
        return f"The examples cannot be read ({error}), so {NO_CLASS}."
    rows = view_parts(embedded.store, parts)
    positions, features = unit_rows(rows)
    found = {rows.images[position]: features[row] for row, position in enumerate(positions.tolist())}
    for name in labels.space.names:
        covered.index(name)
    seen = dict.fromkeys((digests[image], label) for image, label in zip(labels.images, labels.labels, strict=True))
    for digest, label in seen:
        if digest in found:
            covered.add(found[digest], labels.space.names[label])
    return None
