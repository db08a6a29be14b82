"""Pictures for screens, read ahead by threads and kept in memory within bounds, with the contents that they show."""

from __future__ import annotations

import io
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import RLock
from typing import Protocol

from ray_jobs.labels.label_event import Predicted
from ray_jobs.labels.labelled_archive import PredictedImage
from ray_jobs.output.layout import Spot
from ray_jobs.review.prediction_index import IndexedImage

SIDE, LARGE_SIDE = 320, 1280
"""Longer sides of pictures in pixels."""
READERS = 4
"""Groups of images that are read and scaled at a time."""
GROUP = 8
"""Images of a shard that one thread reads."""
THUMBNAIL_BYTES, CONTENT_BYTES = 64 << 20, 256 << 20


class ImageReader(Protocol):
    """Reads images of an archive; a `LabelledArchive` does."""

    def read(self, images: Sequence[PredictedImage], /) -> Iterator[tuple[PredictedImage, bytes | str]]:
        """See `LabelledArchive.read`."""
        ...


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An image that was read.

    Attributes:
        content: its bytes; empty where it cannot be read.
        thumbnail: a small WebP of it; empty where it cannot be read.
        problem: why it cannot be read; None if it can.
    """

    content: bytes
    thumbnail: bytes
    problem: str | None = None


class ImageCache:
    """Images by their numbers in the index, for several threads.

    What storage does not send is asked for again the next time: only images that were read can be unreadable.

    Args:
        reader: of the archive.
        thumbnail_bytes: of thumbnails that are kept.
        content_bytes: of contents that are kept, so that labelling a screen reads none of them again.
    """

    def __init__(
        self, reader: ImageReader, *, thumbnail_bytes: int = THUMBNAIL_BYTES, content_bytes: int = CONTENT_BYTES
    ) -> None:
        self._reader = reader
        self._lock = RLock()
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="thumbnails")
        self._thumbnails = _Bounded(thumbnail_bytes)
        self._contents = _Bounded(content_bytes)
        self._problems: dict[int, str] = {}
        self._loading: dict[int, Future[None]] = {}

    def close(self) -> None:
        """Stop reading ahead."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def prefetch(self, images: Iterable[IndexedImage]) -> None:
        """Begin to read images that are not there."""
        self._load([image for image in images if self._known(image.id) is None])

    def thumbnail(self, image: IndexedImage) -> LoadedImage:
        """Return a thumbnail, or the reason why there is none; the content may be missing.

        Raises:
            ClusterError, OSError: storage or the archive does not respond.
        """
        return self._get(image, self._known)

    def content(self, image: IndexedImage) -> LoadedImage:
        """Return the content, or the reason why there is none; the thumbnail may be missing. Raises as `thumbnail`."""
        return self._get(image, self._known_content)

    def contents(self, images: Sequence[IndexedImage]) -> dict[int, LoadedImage]:
        """Return the contents of several images by number, see `content`."""
        self._load([image for image in images if self._known_content(image.id) is None])
        return {image.id: self.content(image) for image in images}

    def _get(self, image: IndexedImage, known: Callable[[int], LoadedImage | None]) -> LoadedImage:
        for _ in range(3):  # What was loaded may have been dropped again where the bounds are narrow.
            if (found := known(image.id)) is not None:
                return found
            self._load([image])[0].result()
        read = next(iter(self._reader.read([_predicted(image)])), None)
        return _loaded("it is not in the archive any more" if read is None else read[1])

    def _known(self, number: int) -> LoadedImage | None:
        with self._lock:
            if (problem := self._problems.get(number)) is not None:
                return LoadedImage(b"", b"", problem)
            thumbnail = self._thumbnails.get(number)
        return None if thumbnail is None else LoadedImage(b"", thumbnail)

    def _known_content(self, number: int) -> LoadedImage | None:
        with self._lock:
            if (problem := self._problems.get(number)) is not None:
                return LoadedImage(b"", b"", problem)
            content = self._contents.get(number)
        return None if content is None else LoadedImage(content, b"")

    def _load(self, images: Sequence[IndexedImage]) -> list[Future[None]]:
        """Begin to read images, a group of a shard at a time, unless they are being read; return what to wait for."""
        with self._lock:
            groups: defaultdict[str, list[IndexedImage]] = defaultdict(list)
            for image in images:
                if image.id not in self._loading:
                    groups[image.shard].append(image)
            some = [group[start : start + GROUP] for group in groups.values() for start in range(0, len(group), GROUP)]
            begun = [(each, self._pool.submit(self._read, each)) for each in some]
            self._loading |= {image.id: future for each, future in begun for image in each}
            waited_for = [self._loading[image.id] for image in images]
        for each, future in begun:  # Last: one that is done already is forgotten at once.
            future.add_done_callback(partial(self._forget, each))
        return waited_for

    def _forget(self, images: Sequence[IndexedImage], _done: Future[None]) -> None:
        with self._lock:
            for image in images:
                self._loading.pop(image.id, None)

    def _read(self, images: Sequence[IndexedImage]) -> None:
        numbers = {(image.shard, image.place): image.id for image in images}
        left = set(numbers.values())
        for image, content in self._reader.read([_predicted(image) for image in images]):
            number = numbers[image.spot]
            left.discard(number)
            self._keep(number, _loaded(content))
        for number in left:
            self._keep(number, LoadedImage(b"", b"", "it is not in the archive any more"))

    def _keep(self, number: int, image: LoadedImage) -> None:
        with self._lock:
            if image.problem is not None:
                self._problems[number] = image.problem
                return
            self._thumbnails.put(number, image.thumbnail)
            self._contents.put(number, image.content)


class _Bounded:
    """The values that were used last, within a number of bytes."""

    def __init__(self, most: int) -> None:
        self._most, self._bytes = most, 0
        self._values: OrderedDict[int, bytes] = OrderedDict()

    def get(self, key: int) -> bytes | None:
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def put(self, key: int, value: bytes) -> None:
        self._bytes += len(value) - len(self._values.pop(key, b""))
        self._values[key] = value
        while self._bytes > self._most:
            self._bytes -= len(self._values.popitem(last=False)[1])


def _predicted(image: IndexedImage) -> PredictedImage:
    unnamed = Predicted(label=image.label, score=image.score, classifier="", run="")
    return PredictedImage(image.image, image.source, Spot(image.shard, image.place), unnamed)


def _loaded(content: bytes | str) -> LoadedImage:
    if isinstance(content, str):
        return LoadedImage(b"", b"", content)
    thumbnail = scaled(content, SIDE)
    return LoadedImage(b"", b"", thumbnail) if isinstance(thumbnail, str) else LoadedImage(content, thumbnail)


def scaled(content: bytes, side: int) -> bytes | str:
    """Return an image as a WebP whose longer side has at most so many pixels, or the reason why it cannot be read."""
    from PIL import Image

    from fewshot.errors import UnreadableImageError
    from fewshot.images import decode

    try:
        image = decode(content, min_side=side)
    except UnreadableImageError as error:
        return str(error)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=80)
    return buffer.getvalue()
