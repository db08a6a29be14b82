"""The labelled examples of a job: read, sampled, and cut into units of embedding."""

from __future__ import annotations

import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from cluster import Storage, Store, Unit, fingerprint
from cluster.errors import ClusterError
from cluster.records import Selected, Selection, open_source
from cluster.records.base import EntryError
from cluster.records.folder import FolderSlice
from cluster.records.listing import Entry
from cluster.records.reading import read_local, too_large
from cluster.storage.settings import DEFAULT_STORAGE
from fewshot.classes import LabelSpace
from fewshot.data import Example, Splits, label_space, parse_examples, parse_splits, sample_shots
from fewshot.errors import DataError
from ray_jobs.job_file.sections import ClassSection, SupportSection
from ray_jobs.output.layout import dense_folder, feature_part
from ray_jobs.steps.embed import EmbedUnit

MAX_TABLE_BYTES = 256 << 20
"""Largest table of examples or splits: it is read whole; a million rows have some 50 MB."""
TABLES = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".jsonl": "jsonl"}


@dataclass(frozen=True, slots=True)
class Labels:
    """Images with their classes.

    Attributes:
        space: the K classes.
        folder: folder in which relative image paths start.
        images: M references.
        labels: M indices in [0, K).
        storage: how S3 is reached, if images lie there.
        schemes: kinds of URL that references may have, beside the folder's own kind.
        versions: of the images whose version is known from a listing, see `Selected.version`.
    """

    space: LabelSpace
    folder: str
    images: tuple[str, ...]
    labels: tuple[int, ...]
    storage: Storage = DEFAULT_STORAGE
    schemes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def identity(self) -> list[object]:
        """What fingerprints of labels are taken of: neither the storage settings nor the versions of the images."""
        return [self.space, self.folder, self.images, self.labels]

    def drawn(self, shots: int | None, seed: int) -> Labels:
        """Return at most `shots` images of each class; more shots contain the fewer."""
        if shots is None:
            return self
        return self._only(sample_shots(self.images, self.labels, shots=shots, seed=seed))

    def limited(self, examples: Sequence[int | None]) -> Labels:
        """Return the first images of each class, `examples[label]` of them; None takes all."""
        seen: Counter[int] = Counter()
        kept = []
        for row, label in enumerate(self.labels):
            limit = examples[label]
            if limit is None or seen[label] < limit:
                kept.append(row)
            seen[label] += 1
        return self._only(kept)

    def _only(self, rows: Sequence[int]) -> Labels:
        images, labels = tuple(self.images[i] for i in rows), tuple(self.labels[i] for i in rows)
        return replace(self, images=images, labels=labels)


@dataclass(frozen=True)
class LabelledUnits:
    """Labelled images with the parts that hold their features once they are embedded.

    Attributes:
        labels: the images with their classes.
        units: units of embedding; the parts are in `paths`, the images in the order of `images`.
        selected: M references with the versions of the images, in the order of the parts.
        recipe: fingerprint of the folder of their features and the number of views.
    """

    labels: Labels
    units: tuple[Unit, ...]
    selected: tuple[Selected, ...]
    recipe: str

    @property
    def images(self) -> tuple[str, ...]:
        """M references, in the order of the parts."""
        return tuple(item.reference for item in self.selected)

    @cached_property
    def identity(self) -> str:
        """Fingerprint of classes, images and their contents; it does not depend on how they are cut into units."""
        return self.identity_of(self.labels)

    def identity_of(self, drawn: Labels) -> str:
        """Return the identity of some of the images."""
        contents = [
            [image, label, self._versions[image]] for image, label in zip(drawn.images, drawn.labels, strict=True)
        ]
        return fingerprint([drawn.space, self.recipe, sorted(contents)])

    @cached_property
    def _versions(self) -> dict[str, str]:
        return {item.reference: item.version for item in self.selected}

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of the parts."""
        return tuple(unit.path for unit in self.units)


def read_labels(uri: str, classes: Sequence[ClassSection] = (), *, storage: Storage = DEFAULT_STORAGE) -> Labels:
    """Read labelled examples from a folder per class, a table or a splits.json.

    Args:
        uri: a folder per class, a table, or a splits.json (its train split).
        classes: of the job file; their names and descriptions replace those of the examples.
        storage: how S3 is reached.

    Raises:
        DataError: it is none of these, or inconsistent.
        ClusterError: it cannot be read.
    """
    suffix = posixpath.splitext(uri)[1].lower()
    folder, name = posixpath.split(uri)
    said = [Example("", item.label, item.name, item.description) for item in classes]
    if suffix == ".json":
        splits = parse_splits(read_text(uri, storage), name=name)
        if said:
            return _from_examples([*said, *_examples(splits)], folder or ".", storage)
        return Labels(splits.label_space, folder or ".", *_columns(splits.train), storage)
    if suffix in TABLES:
        rows = parse_examples(read_text(uri, storage), format=TABLES[suffix], name=name)  # type: ignore[arg-type]
        return _from_examples([*said, *rows], folder or ".", storage)
    entries = _folder_per_class(uri, storage)
    examples = [Example(image=entry.path, label=entry.path.split("/")[0]) for entry in entries]
    versions = {entry.path: f"{entry.size} {entry.version}" for entry in entries if entry.problem is None}
    return replace(_from_examples([*said, *examples], uri, storage), versions=versions)


def _examples(splits: Splits) -> list[Example]:
    """Return the train split as rows, with a row without an image for each class."""
    space = splits.label_space
    classes = zip(space.names, space.prompt_names, space.descriptions, strict=True)
    named = [Example("", name, spoken, description or None) for name, spoken, description in classes]
    return [*named, *(Example(image, space.names[label]) for image, label in splits.train)]


def read_text(uri: str, storage: Storage = DEFAULT_STORAGE) -> bytes:
    """Read a whole small object; `storage` is how S3 is reached.

    Raises:
        DataError: there is none, it is larger than `MAX_TABLE_BYTES`, or no regular file (a pipe is not waited for).
    """
    folder, name = posixpath.split(uri)
    store = Store(folder or ".", storage=storage)
    try:
        if store.is_local:
            return read_local(f"{store.root}/{name}", MAX_TABLE_BYTES)
        if (size := store.size(name)) > MAX_TABLE_BYTES:
            raise EntryError(too_large(size, MAX_TABLE_BYTES))
        return store.get(name)
    except EntryError as error:
        raise DataError(f"{uri}: {error}") from error
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(f"there is no {uri}") from error
    except PermissionError as error:
        raise DataError(f"{uri} may not be read: permission denied") from error


def labelled_units(
    labels: Labels, groups: Iterable[Sequence[str]], *, features: str, views: int, dense: bool = False
) -> LabelledUnits:
    """Cut labelled images into units of embedding.

    Args:
        labels: the images.
        groups: the images of each unit.
        features: folder of the parts.
        views: augmented views of an image.
        dense: keep the dense tokens, too; the parts then lie in a folder of their own.
    """
    selection = Selection(labels.folder, storage=labels.storage, schemes=labels.schemes)
    selected = [_looked_up(selection, group, labels.versions) for group in groups]
    folder = dense_folder(features) if dense else features
    units = tuple(_unit(selection, group, folder, views, dense=dense) for group in selected)
    recipe = fingerprint([features, views])
    return LabelledUnits(labels, units, tuple(item for group in selected for item in group), recipe)


def by_class(labels: Labels) -> list[list[str]]:
    """Return a group of images for each class, so that a new example costs one class."""
    groups: dict[int, set[str]] = defaultdict(set)
    for image, label in zip(labels.images, labels.labels, strict=True):
        groups[label].add(image)
    return [sorted(groups[label]) for label in sorted(groups)]


def by_draw(draws: Iterable[Labels]) -> list[list[str]]:
    """Return a group for each draw and class, of images in no earlier draw: a draw at the end changes no group."""
    groups, known = [], set[str]()
    for draw in draws:
        groups += [new for group in by_class(draw) if (new := [image for image in group if image not in known])]
        known.update(draw.images)
    return groups


def in_blocks(labels: Labels, size: int) -> list[list[str]]:
    """Return groups of a fixed size."""
    images = sorted(set(labels.images))
    return [images[start : start + size] for start in range(0, len(images), size)]


def _looked_up(selection: Selection, group: Sequence[str], known: Mapping[str, str]) -> list[Selected]:
    """Return the versions of images; they are looked up only if a listing has not shown them."""
    if all(image in known for image in group):
        return [Selected(image, known[image]) for image in group]
    return selection.look_up(group)


def _unit(selection: Selection, group: Sequence[Selected], features: str, views: int, *, dense: bool) -> Unit:
    shard = selection.shard(group)
    return Unit(
        feature_part(features, shard.fingerprint), EmbedUnit(shard, views, dense), weight=len(group) * (1 + views)
    )


def _from_examples(examples: Iterable[Example], folder: str, storage: Storage) -> Labels:
    rows = list(examples)
    space = label_space(rows)
    index = {name: i for i, name in enumerate(space.names)}
    return Labels(space, folder, *_columns((row.image, index[row.label]) for row in rows if row.image), storage)


def _columns(pairs: Iterable[tuple[str, int]]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    rows = list(pairs)
    return tuple(image for image, _ in rows), tuple(label for _, label in rows)


def _folder_per_class(uri: str, storage: Storage) -> list[Entry]:
    """List the images one level down; the name of their folder is the label."""
    try:
        source = open_source(uri, storage=storage)
    except ClusterError as error:
        reason = str(error).partition("; expected")[0]
        expected = "expected a folder with a folder per class, a table (.csv, .parquet, .jsonl) or a splits.json"
        raise DataError(f"no examples: {reason}; {expected}") from error
    if source.kind != "folder":
        raise DataError(f"{uri} is a {source.kind} archive; expected a folder per class, a table or a splits.json")
    entries = [
        entry for shard in source.shards() if isinstance(shard.payload, FolderSlice) for entry in shard.payload.entries
    ]
    paths = [entry.path for entry in entries]
    loose = [path for path in paths if "/" not in path]
    if loose or not paths:
        found = f"{len(loose)} images that are in no class folder, e.g. {loose[0]}" if loose else "no images"
        raise DataError(f"{uri}: expected a folder per class with images in it, found {found}")
    return entries


def support_labels(section: SupportSection, storage: Storage = DEFAULT_STORAGE) -> Labels:
    """Read and sample the examples of a job."""
    labels = replace(read_labels(section.uri, section.classes, storage=storage), schemes=section.schemes)
    own = {Example("", item.label).label: item.examples for item in section.classes if item.examples is not None}
    drawn = labels.drawn(len(labels.images) if own else section.shots, section.seed)
    return drawn.limited([own.get(name, section.shots) for name in labels.space.names])


def support_units(
    section: SupportSection, features: str, *, views: int, dense: bool = False, storage: Storage = DEFAULT_STORAGE
) -> LabelledUnits:
    """Read and sample the examples of a job, and cut them into units of embedding; see `labelled_units`."""
    labels = support_labels(section, storage)
    return labelled_units(labels, by_class(labels), features=features, views=views, dense=dense)
