"""Look at labelled examples: their form, the classes with their counts, and what in them is no image."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from cluster import Storage
from cluster.records import Record, Selected, content_digest, open_source, read_shard
from cluster.records.names import printable
from cluster.records.reading import NOT_FOUND
from cluster.secrets import public_url
from cluster.storage.settings import DEFAULT_STORAGE
from ray_jobs.drafting.duplicates import ExampleContent
from ray_jobs.inputs.example_contents import problem_with_image
from ray_jobs.inputs.example_tables import TABLES
from ray_jobs.inputs.examples import Labels

ExamplesForm = Literal["folder", "csv", "parquet", "jsonl", "splits"]
FORM_NAMES: Mapping[ExamplesForm, str] = {
    "folder": "a folder for each class",
    "csv": "a csv table",
    "parquet": "a parquet table",
    "jsonl": "a jsonl table",
    "splits": "a splits.json",
}
MAX_INSPECTED = 5_000
"""Examples that are read at most."""
MAX_SHOWN = 10
"""Unreadable examples that are listed; all are counted."""
_BLOCK = 256
_THREADS = 8


@dataclass(frozen=True, slots=True)
class UnreadableExample:
    """An example that is no image, or cannot be read."""

    image: str
    label: str
    reason: str


@dataclass(frozen=True, slots=True)
class ExamplesSurvey:
    """What the examples are.

    Attributes:
        uri: where they are, without credentials.
        form: "folder" (one folder per class), a table ("csv", "parquet", "jsonl"), or "splits" (a splits.json).
        counts: number of examples of each class, in the order of the label space; 0 for a class known by name only.
        skipped: entries whose names say that they are no images (hidden files, sidecars); 0 for tables.
        skipped_examples: a few of them.
        used: number of examples that the job draws.
        inspected: how many of these were read: at most `MAX_INSPECTED`.
        unreadable: how many of these are no images, or cannot be read.
        unreadable_examples: the first `MAX_SHOWN` of them.
        notices: see `Labels`.
    """

    uri: str
    form: ExamplesForm
    counts: Mapping[str, int]
    skipped: int
    skipped_examples: tuple[str, ...]
    used: int
    inspected: int
    unreadable: int
    unreadable_examples: tuple[UnreadableExample, ...]
    notices: tuple[str, ...]

    @property
    def images(self) -> int:
        """Number of examples."""
        return sum(self.counts.values())


def form_of_examples(uri: str, labels: Labels) -> ExamplesForm:
    """Return the form of examples: tables that hold images can be a folder of them, all others go by the name."""
    if labels.image_column is not None:
        return "parquet"
    suffix = posixpath.splitext(uri)[1].lower()
    if suffix == ".json":
        return "splits"
    return TABLES.get(suffix, "folder")


def survey_examples(
    uri: str, labels: Labels, used: Labels, storage: Storage = DEFAULT_STORAGE
) -> tuple[ExamplesSurvey, list[ExampleContent]]:
    """Look at examples, reading those that a job would use.

    Args:
        uri: where they are.
        labels: all of them.
        used: those that the job draws.
        storage: how S3 is reached.

    Returns:
        The survey, and the contents of the examples that are images.

    Raises:
        StorageError: storage does not answer, also after retries.
    """
    form = form_of_examples(uri, labels)
    skipped, skipped_examples = _skipped(uri, storage) if form == "folder" else (0, ())
    contents: list[ExampleContent] = []
    unreadable: list[UnreadableExample] = []
    for label, record in _records(used):
        reason = _problem_with(record, labels.folder)
        if reason is not None:
            unreadable.append(UnreadableExample(printable(record.key), label, reason))
        elif record.data is not None:
            contents.append(ExampleContent(record.key, label, len(record.data), content_digest(record.data)))
    survey = ExamplesSurvey(
        uri=public_url(uri),
        form=form,
        counts=labels.counts,
        skipped=skipped,
        skipped_examples=skipped_examples,
        used=len(used.images),
        inspected=len(contents) + len(unreadable),
        unreadable=len(unreadable),
        unreadable_examples=tuple(unreadable[:MAX_SHOWN]),
        notices=labels.notices,
    )
    return survey, contents


def _skipped(uri: str, storage: Storage) -> tuple[int, tuple[str, ...]]:
    source = open_source(uri, storage=storage, follow_links=True)
    for _ in source.shards():
        pass
    return source.skipped.count, tuple(source.skipped.examples)


def _records(labels: Labels) -> Iterator[tuple[str, Record]]:
    """The first examples, read, each with its label."""
    selection = labels.selection
    rows = iter(list(zip(labels.images, labels.labels, strict=True))[:MAX_INSPECTED])
    while block := list(islice(rows, _BLOCK)):
        shard = selection.shard([Selected(image, "") for image, _ in block])
        for (_, label), record in zip(block, read_shard(shard, threads=_THREADS), strict=True):
            yield labels.space.names[label], record


def _problem_with(record: Record, folder: str) -> str | None:
    """Return why an example cannot be read; None if it can. One that is not found was looked up in `folder`."""
    if record.data is None:
        is_missing = (record.error or "").startswith(NOT_FOUND) and "://" not in record.key
        return f"{NOT_FOUND} in {folder}{(record.error or '').removeprefix(NOT_FOUND)}" if is_missing else record.error
    return problem_with_image(record.data)
