"""Look at an archive: its form, the number of its images, and which of them are examples as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.records import Source
from ray_jobs.drafting.duplicates import CopyFinder, ExampleContent
from ray_jobs.inputs.archive import notice_of_repeats
from ray_jobs.inputs.mask_names import MaskFinder, notice_of_archive_masks


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
        mask_notice: see `Listing`.
        repeat_notice: see `Listing`.
    """

    uri: str
    kind: str
    images: int | None
    shards: int
    skipped: int
    skipped_examples: tuple[str, ...]
    mask_notice: str | None
    repeat_notice: str | None


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
    finder, masks = CopyFinder(contents), MaskFinder()
    shards, images, all_counted = 0, 0, True
    for shard in source.shards():
        shards += 1
        images += shard.size or 0
        all_counted = all_counted and shard.size is not None
        finder.visit(shard)
        masks.visit_shard(shard)
    survey = ArchiveSurvey(
        uri=source.uri,
        kind=source.kind,
        images=images if all_counted else None,
        shards=shards,
        skipped=source.skipped.count,
        skipped_examples=tuple(source.skipped.examples),
        mask_notice=notice_of_archive_masks(masks),
        repeat_notice=notice_of_repeats(source.skipped),
    )
    return survey, finder
