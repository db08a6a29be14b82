"""Copy features that `classify` made in the same output, so that an evaluation does not embed its test images again.

The job file names them: images of [archive] may be test images, and are matched by place, size and time (or ETag). They
are copied, as test images have keys and an order of their own, on which cascades build. A copied part has the same
bytes as one that is embedded. Train images need no copy: examples are found by content, whatever job embedded them.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from cluster import Store, Unit
from cluster.errors import ClusterError
from cluster.execution.executor import unfinished
from cluster.records import Selected, Selection, Source
from cluster.records.folder import FolderSlice
from ray_jobs.evaluation.design import Evaluation
from ray_jobs.inputs.archive import open_archive
from ray_jobs.inputs.examples import LabelledUnits
from ray_jobs.output.feature_parts import FeatureRows, concatenate, encode, load
from ray_jobs.output.layout import dense_folder, feature_part, features_folder

Spot: TypeAlias = tuple[str, int]
"""A part of features and a row of it."""
PARTS_HELD = 8
"""Parts that are held in memory at a time."""


def copy_known_features(evaluation: Evaluation) -> int:
    """Copy the features of those units of test images whose images were all embedded before.

    Returns:
        the number of images of these units.

    Raises:
        StorageError: storage does not answer, also after retries.
    """
    copied, test, parts = 0, evaluation.test, _Parts(evaluation.store, dense=evaluation.dense)
    missing = {unit.path for unit in unfinished(test.units, evaluation.ledger) if isinstance(unit, Unit)}
    with suppress(ClusterError, OSError):  # Then the images are embedded.
        known = _known_archive_images(evaluation, test) if missing else {}
        for unit, items in zip(test.units, test.groups, strict=True):
            spots = [known[item.reference] for item in items if item.reference in known]
            if unit.path in missing and len(spots) == len(items):
                evaluation.ledger.commit(unit.path, encode(parts.rows(items, spots)))
                copied += len(items)
    return copied


def _known_archive_images(evaluation: Evaluation, test: LabelledUnits) -> Mapping[str, Spot]:
    """Find test images in the folder of [archive]."""
    section, storage = evaluation.job.archive, evaluation.store.storage
    if section is None:
        return {}
    source = open_archive(section, storage)
    folder = features_folder(evaluation.job.clip.spec, source.identity)
    folder = dense_folder(folder) if evaluation.dense else folder
    if not (done := evaluation.ledger.done(folder)):
        return {}
    selection = Selection(test.labels.folder, storage=storage, schemes=test.labels.schemes)
    places = {item: selection.locate(item.reference) for item in test.selected if item.version}
    wanted = {(_normal(place.uri), item.version): item.reference for item, place in places.items() if place}
    return {
        wanted[image]: (part, row)
        for part, row, image in _archive_images(source, folder)
        if part in done and image in wanted
    }


def _archive_images(source: Source, folder: str) -> Iterator[tuple[str, int, tuple[str, str]]]:
    """Yield part, row, and place with version, of each image of a folder; nothing of an archive of another form."""
    for shard in source.shards():
        if isinstance(shard.payload, FolderSlice):
            root = shard.payload.location.uri.rstrip("/")
            for row, entry in enumerate(shard.payload.entries):
                version = f"{entry.size} {entry.version}"
                yield feature_part(folder, shard.fingerprint), row, (_normal(f"{root}/{entry.path}"), version)


def _normal(uri: str) -> str:
    scheme, separator, path = uri.rpartition("://")
    return f"{scheme}{separator}{posixpath.normpath(path)}"


@dataclass
class _Parts:
    """Parts of features, the last few of which are held.

    Attributes:
        store: where they are.
        dense: whether dense tokens are read, too.
    """

    store: Store
    dense: bool
    _held: dict[str, FeatureRows] = field(default_factory=dict)

    def rows(self, items: Sequence[Selected], spots: Sequence[Spot]) -> FeatureRows:
        """Return the rows at these spots as those of other references to the same images."""
        rows = concatenate([self._part(part).take([row]) for part, row in spots], dense=self.dense)
        return replace(rows, images=[item.reference for item in items], sources=[""] * len(items))

    def _part(self, path: str) -> FeatureRows:
        if path not in self._held:
            if len(self._held) >= PARTS_HELD:
                del self._held[next(iter(self._held))]
            self._held[path] = load(self.store, path, dense=self.dense)
        return self._held[path]
