"""Find images that are there twice: within the examples, and in examples and archive.

Images are the same here when their bytes are. Sizes that a listing has are compared first, so only those archive
images are read whose size an example has, and of these a bounded number.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from cluster.records import Shard, content_digest, pick
from cluster.records.base import Unreadable
from ray_jobs.inputs.examples import Labels
from ray_jobs.output.new_files import lies_inside

MAX_SHOWN = 10
"""Pairs that are listed; all are counted."""
MAX_CANDIDATES = 10_000
"""Archive images that are read at most."""
MAX_CANDIDATE_BYTES = 4 << 30
"""Bytes of archive images that are read at most."""
_THREADS = 8


class ListedEntry(Protocol):
    """An entry as a listing describes it; `size` in bytes, `problem` says why it cannot be read."""

    @property
    def size(self) -> int | None: ...
    @property
    def problem(self) -> str | None: ...


@runtime_checkable
class ListedEntries(Protocol):
    """What a shard reads, where the listing describes every entry."""

    @property
    def entries(self) -> Sequence[ListedEntry]: ...


@dataclass(frozen=True, slots=True)
class ExampleContent:
    """The content of an example, as far as comparisons need it.

    Attributes:
        image: the reference, as the examples have it.
        label: its class.
        size: bytes.
        digest: of the content, see `content_digest`.
    """

    image: str
    label: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class ExamplePair:
    """Two examples with the same content."""

    image: str
    label: str
    other_image: str
    other_label: str


@dataclass(frozen=True, slots=True)
class ArchiveCopy:
    """An archive image with the content of an example."""

    example: str
    label: str
    archive_image: str


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What is there twice.

    Attributes:
        examples_inside_archive: examples whose path lies inside the archive; they are archive images themselves.
        same_class: examples with the content of another example of their class.
        contradictions: pairs of examples with the same content and different labels, the first `MAX_SHOWN`.
        contradicting: number of examples with the content of an example of another class before them.
        compared: whether archive images were compared with examples: the listing must have their sizes.
        all_compared: whether all of them were, or only the first that fit into the limits.
        archive_copies: number of archive images with the content of an example that lies elsewhere.
        copies: the first `MAX_SHOWN` of them.
    """

    examples_inside_archive: int
    same_class: int
    contradictions: tuple[ExamplePair, ...]
    contradicting: int
    compared: bool
    all_compared: bool
    archive_copies: int
    copies: tuple[ArchiveCopy, ...]


def images_inside(labels: Labels, archive: str) -> frozenset[str]:
    """Return the examples whose path lies inside the archive, by paths alone; nothing is read."""
    places = {image: image if "://" in image else posixpath.join(labels.folder, image) for image in labels.images}
    folders = {image: posixpath.dirname(place) or "." for image, place in places.items()}
    inside = {folder for folder in set(folders.values()) if lies_inside(folder, archive)}
    return frozenset(image for image, folder in folders.items() if folder in inside)


def repeated_examples(contents: Sequence[ExampleContent]) -> tuple[int, list[ExamplePair]]:
    """Compare the examples with each other.

    Returns:
        The number of examples that repeat an earlier one of their class, and a pair for each that repeats an earlier
        one of another class.
    """
    first: dict[str, ExampleContent] = {}
    same_class, contradictions = 0, []
    for content in contents:
        known = first.setdefault(content.digest, content)
        if known is content:
            continue
        if known.label == content.label:
            same_class += 1
        else:
            contradictions.append(ExamplePair(known.image, known.label, content.image, content.label))
    return same_class, contradictions


@dataclass(slots=True)
class CopyFinder:
    """Looks for the content of examples in an archive, shard by shard as the archive is listed.

    Attributes:
        contents: of the examples.
        compared: whether the shards so far had sizes to compare.
        all_compared: whether no limit was reached.
        count: archive images found.
        shown: the first of them.
    """

    contents: Sequence[ExampleContent]
    compared: bool = True
    all_compared: bool = True
    count: int = 0
    shown: list[ArchiveCopy] = field(default_factory=list)
    _by_size: dict[int, dict[str, ExampleContent]] = field(init=False)
    _candidates: int = 0
    _bytes: int = 0

    def __post_init__(self) -> None:
        """Sort the examples by size."""
        by_size: defaultdict[int, dict[str, ExampleContent]] = defaultdict(dict)
        for content in self.contents:
            by_size[content.size].setdefault(content.digest, content)
        self._by_size = dict(by_size)

    def visit(self, shard: Shard) -> None:
        """Compare the images of a shard.

        Raises:
            StorageError: storage does not answer, also after retries.
        """
        if isinstance(shard.payload, Unreadable):
            return
        if not isinstance(shard.payload, ListedEntries):
            self.compared = self.all_compared = False
            return
        sizes = [entry.size if entry.problem is None else None for entry in shard.payload.entries]
        rows = [row for row, size in enumerate(sizes) if size is not None and self._affords(size)]
        for record in pick(shard, rows, threads=_THREADS) if rows else ():
            if record.data is not None:
                self._compare(record.key, record.data)

    def _affords(self, size: int) -> bool:
        """Return whether an archive image of this size is to be read, and take it into account."""
        if size not in self._by_size:
            return False
        if self._candidates >= MAX_CANDIDATES or self._bytes + size > MAX_CANDIDATE_BYTES:
            self.all_compared = False
            return False
        self._candidates += 1
        self._bytes += size
        return True

    def _compare(self, image: str, data: bytes) -> None:
        example = self._by_size.get(len(data), {}).get(content_digest(data))
        if example is None:
            return
        self.count += 1
        if len(self.shown) < MAX_SHOWN:
            self.shown.append(ArchiveCopy(example.image, example.label, image))
