"""Look at an archive: its form, the number of its images, and which of them are examples as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.records import Source
from ray_jobs.drafting.duplicates import CopyFinder, ExampleContent


@dataclass(frozen=True, slots=True)
class ArchiveSurvey:
    """What an archive is.

    Attributes:
        uri: where it is, without credentials.
        kind: its form, such as "folder", "parquet" or "tar".
        images: number of images; None where only reading tells.
        shards: number of parts that it is read in.
        skipped: entries whose names say that they are no images (hidden files, sidecars), as far as the listing has
            them.
        skipped_examples: a few of them.
    """

    uri: str
    kind: str
    images: int | None
    shards: int
    skipped: int
    skipped_examples: tuple[str, ...]


def survey_archive(source: Source, contents: Sequence[ExampleContent]) -> tuple[ArchiveSurvey, CopyFinder]:
    """List an archive once, and look for the content of examples in it.

    Args:
        source: the archive.
        contents: of the examples.

    Returns:
        The survey, and what was found of the examples.

    Raises:
        StorageError: storage does not answer, also after retries.
    """
    finder = CopyFinder(contents)
    shards, images, all_counted = 0, 0, True
    for shard in source.shards():
        shards += 1
        images += shard.size or 0
        all_counted = all_counted and shard.size is not None
        finder.visit(shard)
    survey = ArchiveSurvey(
        uri=source.uri,
        kind=source.kind,
        images=images if all_counted else None,
        shards=shards,
        skipped=source.skipped.count,
        skipped_examples=tuple(source.skipped.examples),
    )
    return survey, finder
