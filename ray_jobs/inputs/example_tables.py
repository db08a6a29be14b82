"""Tables of labelled examples: one file, or a folder of Parquet tables; and the folder that their paths start in."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal

from cluster import Storage, Store
from cluster.errors import StorageError
from cluster.records import Source
from cluster.records.base import EntryError, Unreadable
from cluster.records.containers import Container, container_at
from cluster.records.location import Location
from cluster.records.parquet import RowRange
from cluster.records.reading import NOT_FOUND, read_local, too_large
from fewshot.data import Example, SplitChoice
from fewshot.data.split_names import ALL, NO_SPLIT, names_chosen, split_of, suggested_split
from fewshot.data.tables import ExampleRows, TableFormat, parse_rows, unique_examples
from fewshot.errors import DataError
from ray_jobs.inputs.images_folder import folder_of_images

MAX_TABLE_BYTES = 256 << 20
"""Largest table of examples or splits that is read whole; a million rows have some 50 MB. Of Parquet files only the
columns of text are read, whatever their size."""
TABLES: Mapping[str, TableFormat] = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".jsonl": "jsonl"}
ClassFolder = Literal["first", "last"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOptions:
    """How labelled examples are read, see `SupportSection`.

    Attributes:
        split: which split is used.
        default_split: of a splits.json if none is chosen; None: it must have one split only.
        images: folder that relative paths start in; None: the folder of the table.
        image_column: column of the images, or of their paths.
        label_column: column of the labels.
        class_folder: which folder names the class of an image; None: there must be one reading.
        follow_links: whether symbolic links out of a folder of images are followed.
    """

    split: SplitChoice = NO_SPLIT
    default_split: str | None = "train"
    images: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    class_folder: ClassFolder | None = None
    follow_links: bool = True


@dataclass(frozen=True, slots=True)
class FoundExamples:
    """Labelled examples as they were found.

    Attributes:
        examples: the examples, and classes without any.
        folder: folder in which relative image paths start.
        image_column: of tables that hold the images; None if `examples` have paths and URLs.
        notices: sentences about what a user should check.
    """

    examples: Sequence[Example]
    folder: str
    image_column: str | None = None
    notices: tuple[str, ...] = ()


def read_text(uri: str, storage: Storage) -> bytes:
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


def read_table(uri: str, options: LabelOptions, storage: Storage) -> FoundExamples:
    """Read a table of examples.

    Raises:
        DataError: it is none, or its rows contradict each other.
        ClusterError: it cannot be read.
    """
    folder, name = posixpath.split(uri)
    if posixpath.splitext(name)[1].lower() == ".parquet":
        with _opened(uri, storage) as file:
            rows = _parsed(file, name, options)
    else:
        kind = TABLES[posixpath.splitext(name)[1].lower()]
        rows = parse_rows(read_text(uri, storage), format=kind, name=name, **_columns(options))
    examples = unique_examples(rows.rows, name=name, split=options.split)
    found = _found(examples, rows.images, folder or ".", options, storage, name=name)
    return replace(found, notices=rows.notices)


def read_tables(source: Source, uri: str, options: LabelOptions, storage: Storage) -> FoundExamples:
    """Read a folder of Parquet tables, or those that a glob matches, as one table.

    Tables may be named after their splits, as in "train-00000-of-00002.parquet" or "test/0000.parquet".

    Raises:
        DataError: one of them is no table of examples, they differ in form, or have several splits.
        ClusterError: they cannot be read.
    """
    containers, choice = _of_split(_containers(source), options.split, uri)
    rows: list[tuple[str, Example]] = []
    forms, numbered, notices = set(), {}, list[str]()
    for container in containers:
        with container.open() as file:
            found = _parsed(file, container.name, options)
        rows += _placed(found, container.name)
        forms.add(found.images)
        numbered[container.name] = found.has_numbers
        notices += found.notices
    if len(forms) > 1:
        raise DataError(f"{uri}: some tables hold images and others refer to them; expected one kind")
    if len(set(numbered.values())) > 1:
        number, name = (next(table for table, has in numbered.items() if has == wanted) for wanted in (True, False))
        raise DataError(f"{uri}: the labels of {number} are numbers, those of {name} are names; expected one kind")
    examples = unique_examples(rows, name=uri, split=choice)
    location = Location.parse(uri, storage)
    folder = containers[0].path.removesuffix(containers[0].name).rstrip("/")
    root = folder if location.is_local else f"{location.scheme}://{folder}"
    return replace(_found(examples, forms.pop(), root, options, storage, name=uri), notices=tuple(notices))


def _found(
    examples: Sequence[Example], column: str | None, folder: str, options: LabelOptions, storage: Storage, *, name: str
) -> FoundExamples:
    if column is None:
        images = [example.image for example in examples if example.image]
        return FoundExamples(examples, folder_of_images(images, folder, options.images, name, storage))
    if options.images not in (None, folder):
        raise DataError(f"{name} holds the images themselves (column {column!r}), so a folder of images has no use")
    return FoundExamples(examples, folder, column)


def _columns(options: LabelOptions) -> dict[str, str | None]:
    return {"image_column": options.image_column, "label_column": options.label_column}


def _opened(uri: str, storage: Storage) -> BinaryIO:
    """Open a Parquet table, of which only some columns are read."""
    location = Location.parse(uri, storage)
    try:
        container = container_at(location)
        if location.is_local and not location.is_file():
            raise EntryError("not a regular file")
    except EntryError as error:
        raise DataError(f"there is no {uri}" if str(error) == NOT_FOUND else f"{uri}: {error}") from error
    return container.open()


def _parsed(file: BinaryIO, name: str, options: LabelOptions) -> ExampleRows:
    try:
        return parse_rows(file, format="parquet", name=name, **_columns(options))
    except DataError as error:
        if isinstance(error.__cause__, StorageError):  # An outage is no damage.
            raise error.__cause__ from None
        raise


def _placed(found: ExampleRows, name: str) -> Iterator[tuple[str, Example]]:
    """Yield the rows of one of several tables, with paths relative to the folder of all."""
    folder = posixpath.dirname(name)
    for place, example in found.rows:
        image = example.image
        if found.images is None and image and "://" not in image:
            image = posixpath.join(folder, image)
        yield f"{name} {place}", replace(example, image=image)


def _containers(source: Source) -> list[Container]:
    found: dict[str, Container] = {}
    for shard in source.shards():
        if isinstance(shard.payload, Unreadable):
            raise DataError(f"{shard.payload.key}: {shard.payload.reason}")
        assert isinstance(shard.payload, RowRange)
        found[shard.payload.container.name] = shard.payload.container
    return list(found.values())


def _of_split(
    containers: Sequence[Container], choice: SplitChoice, where: str
) -> tuple[Sequence[Container], SplitChoice]:
    """Return the tables of the chosen split, and the choice that is left for their columns."""
    if not containers:
        raise DataError(f"{where} has no rows; expected at least one example")
    names = {container.name: _split_in(container.name) for container in containers}
    present = sorted({name for name in names.values() if name})
    if not present:
        return containers, choice
    if choice.split is None:
        if len(set(names.values())) > 1:
            found = ", ".join(name or "others" for name in sorted(set(names.values())))
            raise DataError(
                f"{where} has tables of several splits ({found}); "
                f"choose one with {choice.setting(suggested_split(present))}, or all with {choice.setting(ALL)}"
            )
        return containers, choice
    chosen = names_chosen(choice.split, present, where=where)
    return [container for container in containers if names[container.name] in chosen], replace(choice, split=None)


def _split_in(name: str) -> str:
    """Return the split in the path of a table, such as "train" of "data/train-00000-of-00001.parquet"; "" if none."""
    *folders, file = name.split("/")
    candidates: Iterable[str] = (*folders, re.split(r"[-_.]", file)[0])
    return next((part for part in candidates if split_of(part) is not None), "")
