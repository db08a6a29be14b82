"""The labelled examples of a job: found, drawn, and cut into units that are embedded."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cluster import Store, Unit, fingerprint
from cluster.errors import ClusterError
from cluster.records import Selected, Selection, open_source
from cluster.records.folder import FolderSlice
from fewshot.classes import LabelSpace
from fewshot.data import Example, label_space, parse_examples, parse_splits, sample_shots
from fewshot.errors import DataError
from ray_jobs.embed import EmbedUnit
from ray_jobs.layout import feature_part
from ray_jobs.sections import SupportSection

TABLES = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".jsonl": "jsonl"}


@dataclass(frozen=True, slots=True)
class Labels:
    """Which image is of which class.

    Attributes:
        space: the K classes.
        folder: where relative image paths start.
        images: M references.
        labels: M indices in [0, K).
    """

    space: LabelSpace
    folder: str
    images: tuple[str, ...]
    labels: tuple[int, ...]

    def drawn(self, shots: int | None, seed: int) -> Labels:
        """At most `shots` of each class; more shots contain the fewer."""
        if shots is None:
            return self
        chosen = sample_shots(self.images, self.labels, shots=shots, seed=seed)
        return Labels(
            self.space, self.folder, tuple(self.images[i] for i in chosen), tuple(self.labels[i] for i in chosen)
        )


@dataclass(frozen=True, slots=True)
class LabelledUnits:
    """Labelled images with the parts that will hold their features.

    Attributes:
        labels: which image is of which class.
        identity: of classes, images and their contents, for fingerprints.
        units: what embeds them; the parts are in `paths`, the images in the order of `images`.
        images: M references, in the order in which the parts list them.
    """

    labels: Labels
    identity: str
    units: tuple[Unit, ...]
    images: tuple[str, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """The parts."""
        return tuple(unit.path for unit in self.units)


def read_labels(uri: str) -> Labels:
    """Read labelled examples in any of the forms people have.

    Args:
        uri: a folder per class, a table, or a splits.json (its train split).

    Raises:
        DataError: it is none of these, or inconsistent.
        ClusterError: it cannot be read.
    """
    suffix = posixpath.splitext(uri)[1].lower()
    folder, name = posixpath.split(uri)
    if suffix == ".json":
        splits = parse_splits(read_text(uri), name=name)
        return Labels(splits.label_space, folder or ".", *_columns(splits.train))
    if suffix in TABLES:
        return _from_examples(parse_examples(read_text(uri), format=TABLES[suffix], name=name), folder or ".")  # type: ignore[arg-type]
    return _from_examples(_folder_per_class(uri), uri)


def read_text(uri: str) -> bytes:
    """A whole small object.

    Raises:
        DataError: there is none.
    """
    folder, name = posixpath.split(uri)
    try:
        return Store(folder or ".").get(name)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(f"there is no {uri}") from error
    except PermissionError as error:
        raise DataError(f"{uri} may not be read: permission denied") from error


def labelled_units(labels: Labels, *, features: str, views: int, block: int | None = None) -> LabelledUnits:
    """Cut labelled images into units: one a class, so that a new example costs its class; or blocks of a fixed size.

    Args:
        labels: which images.
        features: folder of the parts.
        views: augmented views of each.
        block: images in a unit; None makes one unit a class.
    """
    selection = Selection(labels.folder)
    groups = _by_class(labels) if block is None else _blocks(sorted(set(labels.images)), block)
    selected = [selection.look_up(group) for group in groups]
    units = tuple(_unit(selection, group, features, views) for group in selected)
    images = tuple(item.reference for group in selected for item in group)
    identity = fingerprint(
        [labels.space, sorted(zip(labels.images, labels.labels, strict=True)), [u.path for u in units]]
    )
    return LabelledUnits(labels, identity, units, images)


def _unit(selection: Selection, group: Sequence[Selected], features: str, views: int) -> Unit:
    shard = selection.shard(group)
    return Unit(feature_part(features, shard.fingerprint), EmbedUnit(shard, views), weight=len(group) * (1 + views))


def _by_class(labels: Labels) -> list[list[str]]:
    groups: dict[int, set[str]] = defaultdict(set)
    for image, label in zip(labels.images, labels.labels, strict=True):
        groups[label].add(image)
    return [sorted(groups[label]) for label in sorted(groups)]


def _blocks(images: Sequence[str], size: int) -> list[list[str]]:
    return [list(images[start : start + size]) for start in range(0, len(images), size)]


def _from_examples(examples: Iterable[Example], folder: str) -> Labels:
    rows = list(examples)
    space = label_space(rows)
    index = {name: i for i, name in enumerate(space.names)}
    return Labels(space, folder, *_columns((row.image, index[row.label]) for row in rows if row.image))


def _columns(pairs: Iterable[tuple[str, int]]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    rows = list(pairs)
    return tuple(image for image, _ in rows), tuple(label for _, label in rows)


def _folder_per_class(uri: str) -> list[Example]:
    """Images one level down, the folder's name their label."""
    try:
        source = open_source(uri)
    except ClusterError as error:
        raise DataError(f"no examples: {error}") from error
    if source.kind != "folder":
        raise DataError(f"{uri} is a {source.kind} archive; expected a folder per class, a table or a splits.json")
    paths = [
        e.path for shard in source.shards() if isinstance(shard.payload, FolderSlice) for e in shard.payload.entries
    ]
    loose = [path for path in paths if "/" not in path]
    if loose or not paths:
        found = f"{len(loose)} images that are in no class folder, e.g. {loose[0]}" if loose else "no images"
        raise DataError(f"{uri}: expected a folder per class with images in it, found {found}")
    return [Example(image=path, label=path.split("/")[0]) for path in paths]


def support_units(section: SupportSection, features: str) -> LabelledUnits:
    """The job's examples: read, drawn and cut into units."""
    labels = read_labels(section.uri).drawn(section.shots, section.seed)
    return labelled_units(labels, features=features, views=section.views)
