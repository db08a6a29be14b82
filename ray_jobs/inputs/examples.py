"""The labelled examples of a job: read, sampled, and cut into units of embedding."""

from __future__ import annotations

import posixpath
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

from cluster import Storage, Store, Unit, fingerprint
from cluster.errors import ClusterError
from cluster.records import ReferencesBeside, Selected, Selection, open_source
from cluster.records.chunking import chunk
from cluster.records.containers import has_wildcards
from cluster.records.folder import FolderSlice
from cluster.records.location import Location
from cluster.storage.settings import DEFAULT_STORAGE
from fewshot.classes import LabelSpace
from fewshot.data import (
    Example,
    SplitChoice,
    Splits,
    label_space,
    parse_class_prompts,
    parse_splits,
    sample_shots,
    with_prompts,
)
from fewshot.data.splits import chosen_pairs
from fewshot.errors import DataError
from ray_jobs.errors import JobError
from ray_jobs.inputs.class_folders import read_class_folders
from ray_jobs.inputs.class_warnings import first_few
from ray_jobs.inputs.example_tables import (
    TABLES,
    FoundExamples,
    LabelOptions,
    read_table,
    read_tables,
    read_text,
)
from ray_jobs.inputs.images_folder import folder_of_images
from ray_jobs.job_file.sections import ClassSection, Job, SupportSection
from ray_jobs.labels.kept_images import check_kept, kept_reference, references_beside
from ray_jobs.labels.label_event import LabelEvent
from ray_jobs.labels.label_ledger import NO_LEDGER, LabelLedger, ledger_of_run
from ray_jobs.output.feature_parts import FeatureRows, read_parts
from ray_jobs.output.layout import dense_folder, feature_part
from ray_jobs.steps.embed import EmbedUnit

DEFAULT_OPTIONS = LabelOptions()
LABEL_AGAIN = (
    "A label of the ledger is replaced by importing its image with another one, or with the answer unknown (fewshot "
    "labels import)."
)


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
        image_column: column of the images, where references are rows of tables; None if they are paths and URLs.
        notices: sentences about what a user should check.
        beside: references that lead to copies in a ledger of labels; None: there are none.
    """

    space: LabelSpace
    folder: str
    images: tuple[str, ...]
    labels: tuple[int, ...]
    storage: Storage = DEFAULT_STORAGE
    schemes: tuple[str, ...] = ()
    image_column: str | None = None
    notices: tuple[str, ...] = ()
    beside: ReferencesBeside | None = None

    @property
    def identity(self) -> list[object]:
        """What fingerprints of labels are taken of: neither the storage settings nor the contents of the images."""
        return [self.space, self.folder, self.images, self.labels]

    @property
    def counts(self) -> dict[str, int]:
        """Number of images of each class, in the order of the label space."""
        found = Counter(self.labels)
        return {name: found[index] for index, name in enumerate(self.space.names)}

    def only(self, images: Collection[str]) -> Labels:
        """Return the labels of some images."""
        pairs = [pair for pair in zip(self.images, self.labels, strict=True) if pair[0] in images]
        return replace(self, images=tuple(pair[0] for pair in pairs), labels=tuple(pair[1] for pair in pairs))

    @property
    def selection(self) -> Selection:
        """What reads the images."""
        return Selection(
            self.folder,
            storage=self.storage,
            schemes=self.schemes,
            image_column=self.image_column,
            beside=self.beside,
        )

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
        versions = {item.reference: item.version for item in self.selected}
        return labels_identity(self.labels, self.recipe, versions)

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of the parts."""
        return tuple(unit.path for unit in self.units)

    def read(self, store: Store, *, dense: bool = False) -> FeatureRows:
        """Read the features of all images, in the order of `images`. Raises as `ray_jobs.output.feature_parts.load`."""
        return read_parts(store, self.paths, dense=dense)

    @property
    def groups(self) -> list[tuple[Selected, ...]]:
        """The references of each unit."""
        items = iter(self.selected)
        return [tuple(islice(items, unit.payload.shard.size)) for unit in self.units]


def labels_identity(labels: Labels, recipe: str, versions: Mapping[str, str]) -> str:
    """Return a fingerprint of classes, images and their contents, in any order.

    Args:
        labels: images with their classes.
        recipe: how their features are made.
        versions: of the images' contents.
    """
    pairs = zip(labels.images, labels.labels, strict=True)
    return fingerprint([labels.space, recipe, sorted([image, label, versions[image]] for image, label in pairs)])


def read_labels(
    uri: str,
    classes: Sequence[ClassSection] = (),
    *,
    options: LabelOptions = DEFAULT_OPTIONS,
    storage: Storage = DEFAULT_STORAGE,
) -> Labels:
    """Read labelled examples from a folder per class, a table or a splits.json.

    Args:
        uri: a folder per class, a table (or a folder or glob of Parquet tables), or a splits.json.
        classes: of the job file; their names and descriptions replace those of the examples.
        options: which split is used, which columns, and where relative paths start.
        storage: how S3 is reached.

    Raises:
        DataError: it is none of these, it is inconsistent, or it can be read in several ways.
        ClusterError: it cannot be read.
    """
    suffix = posixpath.splitext(uri)[1].lower()
    named = [Example("", item.label, item.name, item.description) for item in classes]
    if suffix == ".json":
        return _from_splits(uri, named, options, storage)
    if suffix in TABLES and not has_wildcards(uri):
        found = read_table(uri, options, storage)
    else:
        found = _from_folder(uri, [item.label for item in named], options, storage)
    labels = _from_examples([*named, *found.examples], found.folder, storage)
    return replace(labels, image_column=found.image_column, notices=found.notices)


def _from_splits(uri: str, named: Sequence[Example], options: LabelOptions, storage: Storage) -> Labels:
    """Read one split of a splits.json."""
    splits = parse_splits(read_text(uri, storage), name=posixpath.basename(uri))
    pairs = chosen_pairs(splits, options.split, default=options.default_split, where=posixpath.basename(uri))
    root = _folder_of(uri, pairs, options.images, storage)
    if named:
        return _from_examples([*named, *_examples(splits.label_space, pairs)], root, storage)
    return Labels(splits.label_space, root, *_columns(pairs), storage)


def read_splits(uri: str, images: str | None, storage: Storage = DEFAULT_STORAGE) -> tuple[Splits, str]:
    """Read a splits.json with all its splits, for an evaluation.

    Args:
        uri: of the file.
        images: folder that its paths are relative to; None: the folder of the file.
        storage: how S3 is reached.

    Returns:
        The splits, and the folder that their paths start in.

    Raises:
        DataError: it is no such file, or its images lie in another folder.
        ClusterError: it cannot be read.
    """
    Location.parse(uri, storage)  # Refuses what no path can be.
    name = posixpath.basename(uri)
    if posixpath.splitext(uri)[1].lower() != ".json":
        layout = '{"classes": [name, ...], "train": [[path, index], ...], "test": [[path, index], ...]}'
        raise DataError(f"{uri}: expected a splits.json, a JSON file such as {layout}")
    splits = parse_splits(read_text(uri, storage), name=name)
    return splits, _folder_of(uri, splits.test or splits.train, images, storage, key="evaluate.images")


def _folder_of(
    uri: str, pairs: Sequence[tuple[str, int]], images: str | None, storage: Storage, *, key: str = "support.images"
) -> str:
    folder, name = posixpath.split(uri)
    return folder_of_images([image for image, _ in pairs], folder or ".", images, name, storage, key=key)


def _examples(space: LabelSpace, pairs: Iterable[tuple[str, int]]) -> list[Example]:
    """Return labelled images as rows, after a row without an image for each class."""
    classes = zip(space.names, space.prompt_names, space.descriptions, strict=True)
    named = [Example("", name, spoken, description or None) for name, spoken, description in classes]
    return [*named, *(Example(image, space.names[label]) for image, label in pairs)]


def _from_folder(uri: str, known: Sequence[str], options: LabelOptions, storage: Storage) -> FoundExamples:
    try:
        source = open_source(uri, storage=storage, follow_links=options.follow_links)
        shards = source.shards() if source.kind == "folder" else ()
        slices = [shard.payload for shard in shards if isinstance(shard.payload, FolderSlice)]
    except ClusterError as error:
        reason = str(error).partition("; expected")[0]
        expected = (
            "expected a folder with a folder per class, a table (.csv, .parquet, .jsonl) or a splits.json; for class"
            " names alone, a table with the columns image and label and nothing in image"
        )
        raise DataError(f"no examples: {reason}; {expected}") from error
    entries = [entry for part in slices for entry in part.entries]
    if source.kind == "parquet":
        return read_tables(source, uri, options, storage)
    if source.kind != "folder":
        raise DataError(f"{uri} is a {source.kind} archive; expected a folder per class, a table or a splits.json")
    return read_class_folders(entries, uri, options, known, storage, has_others=source.skipped.count > 0)


def labelled_units(
    labels: Labels,
    groups: Iterable[Sequence[str]],
    *,
    features: str,
    views: int,
    dense: bool = False,
) -> LabelledUnits:
    """Cut labelled images into units of embedding, identified by size and time (or ETag) without reading them.

    Args:
        labels: the images.
        groups: the images of each unit.
        features: folder of the parts.
        views: augmented views of an image.
        dense: keep the dense tokens, too; the parts then lie in a folder of their own.
    """
    selection = labels.selection
    selected = [selection.look_up(group) for group in groups]
    folder = dense_folder(features) if dense else features
    units = tuple(_unit(selection, group, folder, views, dense=dense) for group in selected)
    recipe = fingerprint([features, views])
    return LabelledUnits(labels, units, tuple(item for group in selected for item in group), recipe)


def by_class(labels: Labels) -> list[list[str]]:
    """Return a group of images for each class."""
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
    """Return groups of about this size; another image changes its own group and hardly any other."""
    return list(chunk(sorted(set(labels.images)), key=str, target=size))


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


def support_options(section: SupportSection) -> LabelOptions:
    """Return how the examples of a job are read."""
    return LabelOptions(
        split=SplitChoice(section.split, "support.split"),
        images=section.images,
        image_column=section.image_column,
        label_column=section.label_column,
        class_folder=section.class_folder,
        follow_links=section.follow_links,
    )


def space_with_prompts(space: LabelSpace, uri: str | None, storage: Storage = DEFAULT_STORAGE) -> LabelSpace:
    """Return the classes with the sentences in a file; None changes nothing.

    Raises:
        DataError: there is no such file, or it does not fit the classes.
        ClusterError: it cannot be read.
    """
    if uri is None:
        return space
    return with_prompts(space, parse_class_prompts(read_text(uri, storage), name=uri), name=uri)


def support_labels(
    section: SupportSection, storage: Storage = DEFAULT_STORAGE, *, ledger: LabelLedger | None = None
) -> Labels:
    """Read and sample the examples of a job.

    Args:
        section: the job's [support].
        storage: how S3 is reached.
        ledger: labels to learn from beside them, all of them; None: there are none.

    Raises:
        DataError, ClusterError: see `read_labels`.
        JobError: the ledger cannot be read, or lacks copies of its images.
    """
    labels = read_labels(section.uri, section.classes, options=support_options(section), storage=storage)
    own = {Example("", item.label).label: item.examples for item in section.classes if item.examples is not None}
    drawn = replace(labels, schemes=section.schemes).drawn(len(labels.images) if own else section.shots, section.seed)
    limited = drawn.limited([own.get(name, section.shots) for name in labels.space.names])
    joined = limited if ledger is None else _with_ledger(limited, ledger)
    return replace(joined, space=space_with_prompts(joined.space, section.prompts, storage))


def _with_ledger(labels: Labels, ledger: LabelLedger) -> Labels:
    """Add the labels that people gave to images of an archive; they may add classes."""
    if not (given := learned_labels(ledger)):
        return labels
    rows = [Example(kept_reference(event), event.label or "") for event in given]
    pairs = zip(labels.images, labels.labels, strict=True)
    try:
        joined = _from_examples([*_examples(labels.space, pairs), *rows], labels.folder, labels.storage)
    except DataError as error:
        raise JobError([f"labels of {ledger.store.root}: {error}\n{LABEL_AGAIN}"]) from error
    added = [name for name in joined.space.names if name not in set(labels.space.names)]
    count = "1 class" if len(added) == 1 else f"{len(added)} classes"
    notice = f"Labels of {ledger.store.root} add {count}: {first_few(added)}."
    notices = (*labels.notices, *([notice] if added else []))
    return replace(
        labels,
        space=joined.space,
        images=joined.images,
        labels=joined.labels,
        beside=references_beside(ledger.store),
        notices=notices,
    )


def learned_labels(ledger: LabelLedger) -> list[LabelEvent]:
    """Return the labels that are learned from, by image; there are copies of the images in the ledger.

    Raises:
        JobError: the ledger is damaged, or lacks copies.
        StorageError: storage does not respond.
    """
    current = ledger.current().answers
    given = [event for _, event in sorted(current.items()) if event.answer == "label"]
    if given:
        check_kept(ledger.store, given)
    return given


def learned_ledger(job: Job, output: Store) -> LabelLedger | None:
    """Return the ledger that a job learns from; None without `support.labels`.

    That of the job's own output may be empty, since its first labels are given to its first predictions.

    Args:
        job: the job file.
        output: of the job, where it lies now.

    Raises:
        JobError: its URL is wrong, or there is no ledger in another place.
        StorageError: storage does not respond.
    """
    if job.support is None or not (place := job.support.labels):
        return None
    if place is not True and posixpath.splitext(place)[1].lower() in TABLES:
        raise JobError([f"{place} is a table: import it (fewshot labels import); {NO_LEDGER}"])
    return ledger_of_run(job, output)
