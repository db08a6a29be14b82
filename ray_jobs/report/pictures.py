"""Small pictures of images of the archive and of the examples, as data URIs for the page.

Pictures are optional: images that cannot be read again have none.
"""

from __future__ import annotations

import io
import logging
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from cluster import Storage
from cluster.errors import ClusterError
from cluster.records import Selected, Shard, Source, pick, read_shard
from cluster.records.base import RandomAccess
from cluster.secrets import redacted
from cluster.storage.settings import DEFAULT_STORAGE
from fewshot.errors import FewShotError, UnreadableImageError
from ray_jobs.inputs.archive import open_archive
from ray_jobs.inputs.examples import Labels
from ray_jobs.job_file.sections import ArchiveSection
from ray_jobs.output.layout import Spot
from ray_jobs.report.image_sample import ROWS

K = TypeVar("K")

logger = logging.getLogger(__name__)
ARCHIVE_SIDE, EXAMPLE_SIDE = 96, 48
"""Longer side of a picture in pixels."""


def archive_pictures(
    section: ArchiveSection, wanted: Mapping[str, Mapping[int, str]], storage: Storage = DEFAULT_STORAGE
) -> dict[Spot, str]:
    """Return pictures of some images of the archive, as far as these can still be read.

    Of shards that can only be read from their beginning, such as tars, the first `ROWS` images have pictures.

    Args:
        section: the archive.
        wanted: shard -> row there -> key.
        storage: how S3 is reached.

    Returns:
        data URIs.
    """
    return _as_far_as_readable("archive", lambda: of_archive(open_archive(section, storage), wanted))


def example_pictures(labels: Labels, names: Sequence[str]) -> dict[str, str]:
    """Return a picture of one of the examples of each of these classes.

    Returns:
        class name -> data URI; classes without a readable example are missing.
    """
    return _as_far_as_readable("examples", lambda: _of_examples(labels, names))


def pictures_of_examples(labels: Labels, images: Sequence[str]) -> dict[str, str]:
    """Return pictures of some examples, by reference; those that cannot be read are missing."""
    return _as_far_as_readable("examples", lambda: _of_selection(labels, images))


def _as_far_as_readable(what: str, pictures: Callable[[], Iterator[tuple[K, str]]]) -> dict[K, str]:
    found: dict[K, str] = {}
    try:
        found.update(pictures())  # keeps what came before any trouble
    except (ClusterError, FewShotError, OSError) as error:
        reason = redacted(str(error))
        logger.warning("report without some pictures of=%s found=%d error=%s", what, len(found), reason)
    return found


def of_archive(source: Source, wanted: Mapping[str, Mapping[int, str]]) -> Iterator[tuple[Spot, str]]:
    left = dict(wanted)
    for shard in source.shards() if left else ():
        keys = left.pop(shard.fingerprint, {})
        for index, picture in _of_shard(shard, keys):
            yield Spot(shard.fingerprint, index), picture
        if not left:
            break


def _of_shard(shard: Shard, keys: Mapping[int, str]) -> Iterator[tuple[int, str]]:
    is_random = isinstance(shard.payload, RandomAccess)
    places = sorted(place for place in keys if is_random or place < ROWS)
    for index, record in zip(places, pick(shard, places) if places else (), strict=False):
        if keys[index] == record.key and (picture := thumbnail(record.data, side=ARCHIVE_SIDE)):
            yield index, picture


def _of_examples(labels: Labels, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    classes = {image: name for name, image in _first_images(labels).items() if name in set(names)}
    for image, picture in _of_selection(labels, sorted(classes), side=EXAMPLE_SIDE):
        yield classes[image], picture


def _of_selection(labels: Labels, images: Sequence[str], *, side: int = ARCHIVE_SIDE) -> Iterator[tuple[str, str]]:
    for record in read_shard(labels.selection.shard([Selected(image, "") for image in images])):
        if picture := thumbnail(record.data, side=side):
            yield record.key, picture


def _first_images(labels: Labels) -> dict[str, str]:
    """Return the first example of each class, by name."""
    pairs = sorted(zip(labels.images, labels.labels, strict=True), reverse=True)
    return {labels.space.names[label]: image for image, label in pairs}


def thumbnail(data: bytes | None, *, side: int) -> str | None:
    """Return a small WebP of an image, as a data URI.

    Args:
        data: the file.
        side: of its longer side, in pixels, at most.

    Returns:
        None if the data is no image.
    """
    from PIL import Image

    from fewshot.images import decode

    if data is None:
        return None
    try:
        image = decode(data, min_side=2 * side)
    except UnreadableImageError:
        return None
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=75)
    return "data:image/webp;base64," + b64encode(buffer.getvalue()).decode()
