"""The examples that an image of the archive is most similar to, by the features that its run stored."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from threading import RLock

import numpy as np
from numpy.typing import NDArray

from ray_jobs.errors import JobError
from ray_jobs.inputs.example_contents import ExampleContents
from ray_jobs.inputs.examples import Labels, learned_ledger, support_labels
from ray_jobs.labels.labelled_archive import LabelledArchive
from ray_jobs.output.feature_parts import view_features, view_parts
from ray_jobs.output.layout import present_parts, shard_of
from ray_jobs.review.prediction_index import IndexedImage
from ray_jobs.suggestion.embedded_run import unit_rows

SHOWN = 6


@dataclass(frozen=True, slots=True)
class NearExample:
    """An example, as similar to an image as it is.

    Attributes:
        number: by which its picture is asked for.
        image: its reference.
        label: its class.
        similarity: cosine of the two features, in [-1, 1].
    """

    number: int
    image: str
    label: str
    similarity: float


@dataclass(frozen=True, slots=True)
class _Examples:
    """The examples with features: their references and classes, and [M, D] float32, unit rows."""

    labels: Labels
    pairs: tuple[tuple[str, str], ...]
    features: NDArray[np.float32]


class NearestExamples:
    """Compares images with all examples, one at a time, for several threads.

    The examples and their features are read at the first image, and of the archive the part that has the image.

    Args:
        archive: of the run.
    """

    def __init__(self, archive: LabelledArchive) -> None:
        self._archive = archive
        self._lock = RLock()

    def find(self, image: IndexedImage) -> list[NearExample]:
        """Return the most similar examples, the most similar first, at most `SHOWN`; equal ones by their references.

        Raises:
            JobError: features of the image or of the examples are not there, or are damaged.
            ClusterError: storage does not respond.
        """
        examples = self._read_examples()
        similarity = examples.features @ self._direction(image)
        nearest = np.argsort(-similarity, kind="stable")[:SHOWN].tolist()
        bounded = np.clip(similarity, -1.0, 1.0)
        found = [(number, *examples.pairs[number]) for number in nearest]
        return [NearExample(number, image, label, float(bounded[number])) for number, image, label in found]

    def content(self, number: int) -> bytes | str:
        """Return the bytes of an example, or the reason why it cannot be read. Raises as `find`.

        Args:
            number: see `NearExample`.
        """
        examples = self._read_examples()
        if not 0 <= number < len(examples.pairs):
            raise JobError(["there is no such example in this run"])
        (record,) = examples.labels.selection.read([examples.pairs[number][0]])
        return str(record.error) if record.data is None else record.data

    def _read_examples(self) -> _Examples:
        with self._lock:
            return self._examples

    @cached_property
    def _examples(self) -> _Examples:
        run, job = self._archive.run, self._archive.job
        parts = present_parts(run.store, run.plan.example_parts)
        if job.support is None or not parts:
            raise JobError(["no neighbours: the features of the examples are not in the output"])
        labels = support_labels(job.support, run.store.storage, ledger=learned_ledger(job, run.store))
        rows = view_parts(run.store, parts)
        positions, features = unit_rows(rows)
        row_of = {rows.images[position]: row for row, position in enumerate(positions.tolist())}
        digests = ExampleContents.read(labels).digests
        names = labels.space.names
        pairs = {(image, names[label]) for image, label in zip(labels.images, labels.labels, strict=True)}
        found = [(image, label) for image, label in sorted(pairs) if digests[image] in row_of]
        if not found:
            raise JobError(["no neighbours: the examples have changed since the run"])
        return _Examples(labels, tuple(found), features[[row_of[digests[image]] for image, _ in found]])

    @cached_property
    def _part_of(self) -> dict[str, str]:
        """By fingerprint of the shard, the parts of the archive's features."""
        return {shard_of(part): part for part in self._archive.run.plan.features}

    def _direction(self, image: IndexedImage) -> NDArray[np.float32]:
        """[D] float32: the feature of an image, of length 1."""
        part = self._part_of.get(image.shard)
        if part is None:
            raise JobError(["no neighbours: the run has no features of this image"])
        rows = view_features(self._archive.run.store, part)
        positions, features = unit_rows(rows)
        found = np.flatnonzero(positions == image.place)
        if not len(found) or rows.images[image.place] != image.image:
            raise JobError(["no neighbours: the run has no features of this image"])
        direction: NDArray[np.float32] = features[found[0]]
        return direction
