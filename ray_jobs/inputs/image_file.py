"""One image, named by a path or URL by itself."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cluster import Storage
from cluster.errors import SourceError
from cluster.records.base import EntryError
from cluster.records.location import Location
from cluster.records.reading import read_local, read_remote, with_retries
from cluster.storage.settings import DEFAULT_STORAGE
from fewshot.errors import UnreadableImageError

if TYPE_CHECKING:
    from torch import Tensor

    from fewshot.backbones import Backbone

MAX_BYTES = 256 << 20
"""Larger files are not read."""


def read_image_file(place: str, storage: Storage = DEFAULT_STORAGE) -> bytes:
    """Read a file.

    Args:
        place: path or URL.
        storage: how S3 is reached.

    Raises:
        UnreadableImageError: there is none, it is larger than `MAX_BYTES`, or it may not be read.
        StorageError: storage does not respond.
    """
    try:
        location = Location.parse(place, storage)
        filesystem, path = location.open()
        read = partial(read_local, path) if location.is_local else partial(read_remote, filesystem, path)
        return with_retries(lambda: read(MAX_BYTES), location.redacted)
    except (EntryError, SourceError, ValueError) as error:
        raise UnreadableImageError(str(error)) from None


def embed_content(clip: Backbone, data: bytes) -> Tensor:
    """Embed the content of an image file.

    Returns:
        [D] float32, the raw encoder output.

    Raises:
        UnreadableImageError: it cannot be decoded.
    """
    from fewshot.images import decode_pixels, side_before_resizing

    pixels = decode_pixels(data, min_side=side_before_resizing(clip.longer_side))
    return clip.embed_images(clip.crop(pixels)[None])[0]
