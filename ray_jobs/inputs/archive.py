"""The archive of a job, listed once; names of its images are not kept."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace

from cluster import Storage, Unit, fingerprint
from cluster.records import Columns, Skipped, Source, open_source
from cluster.storage.settings import DEFAULT_STORAGE
from ray_jobs.inputs.mask_names import MaskFinder, notice_of_archive_masks
from ray_jobs.job_file.sections import ArchiveSection
from ray_jobs.output.layout import feature_part
from ray_jobs.results.run_plan import ArchiveSummary
from ray_jobs.steps.embed import EmbedUnit


@dataclass(frozen=True, slots=True)
class Listing:
    """What the archive held when it was listed: an entry for each shard, none for each image.

    Attributes:
        place: fingerprint of its URL, or of the name that stands for it.
        shards: pairs of fingerprint and number of images (None if only reading tells it), in the archive's order.
        skipped: number of entries skipped because they are no images by their names.
        skipped_examples: names of a few of them.
        mask_notice: a sentence about images that may be masks by their names; None if there are none.
        repeat_notice: a sentence about images that a list names again; None if there are none.
    """

    place: str
    shards: tuple[tuple[str, int | None], ...]
    skipped: int
    skipped_examples: tuple[str, ...]
    mask_notice: str | None = None
    repeat_notice: str | None = None

    @property
    def contents(self) -> str:
        """Fingerprint of the contents."""
        return fingerprint([name for name, _ in self.shards])

    @property
    def images(self) -> int | None:
        """Number of images; None if shards must be read to count them."""
        sizes = [size for _, size in self.shards if size is not None]
        return sum(sizes) if len(sizes) == len(self.shards) else None

    @property
    def weight(self) -> tuple[int, str]:
        """The weight of all units, and what it counts: images, or shards where some must be read to count theirs."""
        return sum(size or 1 for _, size in self.shards), "shards" if self.images is None else "img"

    def parts(self, folder: str) -> list[str]:
        """Return the parts of features, in the archive's order."""
        return [feature_part(folder, name) for name, _ in self.shards]

    def left(self, parts: Sequence[str], done: Container[str]) -> tuple[int, int]:
        """Count shards, and images as far as known, that are not done yet; `parts` has the part of each shard."""
        left = [size or 0 for part, (_, size) in zip(parts, self.shards, strict=True) if part not in done]
        return len(left), sum(left)

    def summary(self) -> ArchiveSummary:
        """Return what plans and reports state."""
        return ArchiveSummary(
            images=self.images,
            shards=len(self.shards),
            skipped=self.skipped,
            skipped_examples=tuple(self.skipped_examples),
        )


def open_archive(section: ArchiveSection, storage: Storage = DEFAULT_STORAGE) -> Source:
    """Open the archive of a job; `storage` is how S3 is reached.

    Raises:
        SourceError: there is nothing there.
    """
    source = open_source(
        section.uri,
        shard_records=section.shard_images,
        max_bytes=section.max_image_bytes,
        columns=Columns(image=section.image_column, key=section.key_column),
        storage=storage,
        schemes=section.schemes,
        form=section.form,
        component=section.component,
        follow_links=section.follow_links,
    )
    return replace(source, id=section.id)


def list_archive(source: Source) -> Listing:
    """List an archive."""
    masks = MaskFinder()
    shards = []
    for shard in source.shards():
        masks.visit_shard(shard)
        shards.append((shard.fingerprint, shard.size))
    return Listing(
        place=source.identity,
        shards=tuple(shards),
        skipped=source.skipped.count,
        skipped_examples=tuple(source.skipped.examples),
        mask_notice=notice_of_archive_masks(masks),
        repeat_notice=notice_of_repeats(source.skipped),
    )


def notice_of_repeats(skipped: Skipped) -> str | None:
    """Return a sentence about images that a list names again; None if there are none."""
    if not skipped.repeated:
        return None
    rows = "1 row of the list names" if skipped.repeated == 1 else f"{skipped.repeated:,} rows of the list name"
    return f"{rows} an image that another row names, such as {skipped.repeated_examples[0]}. Each is labelled once."


def archive_units(source: Source, folder: str, *, dense: bool = False) -> Iterator[Unit]:
    """Yield the units that embed the archive. It is listed anew as units are pulled: names are never kept."""
    for shard in source.shards():
        yield Unit(feature_part(folder, shard.fingerprint), EmbedUnit(shard, dense=dense), weight=shard.size or 1)
