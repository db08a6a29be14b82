"""The step that embeds: records in, a part of features out. A worker loads the backbone once.

Two units live in a worker at a time. While one of them has the device, the other reads and decodes its first batches,
so that the device does not wait between units; pixels never leave the process. With helpers they do: machines without
a GPU read and decode whole units, and their pixels travel to the worker.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cluster import Part
from cluster.records import Record, Shard, content_digest, read_shard
from fewshot.backbones import ClipSpec
from ray_jobs.output.feature_parts import FeatureRows, counts, encode, without_nonfinite
from ray_jobs.steps.gpu_share import keep_to_share

if TYPE_CHECKING:
    from torch import Tensor

    from fewshot.backbones import ClipBackbone
    from fewshot.backbones.image_crop import Crop

VIEW_SEED = 0
"""Of the augmented views. The same for every job, so that examples are embedded once whatever draws them."""
DECODED_BATCHES = 4
"""Batches that may be decoded ahead of the device."""


@dataclass(frozen=True, slots=True)
class EmbedUnit:
    """A unit of embedding: the images of a shard.

    Attributes:
        shard: the images.
        views: augmented views beside the deterministic one.
        dense: keep the dense tokens of the deterministic view, too: what the image tower's last layer pools.
    """

    shard: Shard
    views: int = 0
    dense: bool = False


@dataclass(slots=True)
class Embedder:
    """State of a worker: the backbone, threads that decode, and a lock on the device."""

    clip: ClipBackbone
    decoders: ThreadPoolExecutor
    device: threading.Lock
    dim: int


@dataclass(frozen=True, slots=True)
class EmbedStep:
    """Embeds images with a CLIP.

    Attributes:
        spec: the CLIP, and how it runs.
        decode_threads: threads of a worker that decode; the result does not depend on them.
    """

    spec: ClipSpec
    decode_threads: int = 2

    def setup(self) -> Embedder:
        """Load the backbone."""
        from fewshot.backbones import load_clip

        keep_to_share()
        clip = load_clip(self.spec)
        decoders = ThreadPoolExecutor(self.decode_threads, thread_name_prefix="decode")
        return Embedder(clip, decoders, threading.Lock(), dim=clip.embed_texts(["a"]).shape[1])

    def run(self, state: Embedder, unit: EmbedUnit) -> Part:
        """Embed a shard: a row for every record, also for broken ones."""
        ahead = max(1, DECODED_BATCHES * state.clip.batch_size // (1 + unit.views))
        return self._embed(state, unit, _decoded(self.tools(state), unit, state.decoders, ahead=ahead))

    def tools(self, state: Embedder) -> Tools:
        """Return what decoding needs of the backbone."""
        return Tools(state.clip.crop, state.clip.image_size)

    def prepare(self, tools: Tools, unit: EmbedUnit) -> Pixels:
        """Read and decode a shard."""
        with ThreadPoolExecutor(self.decode_threads, thread_name_prefix="decode") as decoders:
            return Pixels.from_images(list(_decoded(tools, unit, decoders, ahead=4 * self.decode_threads)))

    def run_prepared(self, state: Embedder, unit: EmbedUnit, prepared: Pixels) -> Part:
        """Embed a shard that was decoded elsewhere."""
        return self._embed(state, unit, prepared.images())

    def _embed(self, state: Embedder, unit: EmbedUnit, images: Iterator[_Decoded]) -> Part:
        first = next(images, None)
        rows: list[_Decoded] = [] if first is None else [first]
        output = _Output(state.clip, views=1 + unit.views, keeps_dense=unit.dense)
        with state.device:
            waiting = [] if first is None or first.pixels is None else [first.pixels]
            for image in images:
                rows.append(image)
                if image.pixels is not None:
                    waiting.append(image.pixels)
                    image.pixels = None
                if sum(map(len, waiting)) >= state.clip.batch_size:
                    waiting = output.forward(waiting)
            output.forward(waiting, rest=True)
        return _part(rows, output, dim=state.dim)


@dataclass(frozen=True, slots=True)
class Tools:
    """What decoding needs of the backbone; see `ClipBackbone`."""

    crop: Crop
    image_size: int


@dataclass(slots=True)
class _Decoded:
    key: str
    source: str
    error: str | None
    pixels: Tensor | None


@dataclass(frozen=True, slots=True)
class Pixels:
    """A decoded shard that is sent to a worker.

    Attributes:
        rows: (key, source, error) of every record.
        pixels: [r, 1 + views, 3, H, W] uint8 of the r records that were read, in order.
    """

    rows: list[tuple[str, str, str | None]]
    pixels: np.ndarray

    @classmethod
    def from_images(cls, images: Iterable[_Decoded]) -> Pixels:
        """Pack decoded images."""
        images = list(images)
        read = [image.pixels.numpy() for image in images if image.pixels is not None]
        rows = [(image.key, image.source, image.error) for image in images]
        return cls(rows, np.stack(read) if read else np.zeros((0, 0, 3, 0, 0), np.uint8))

    def images(self) -> Iterator[_Decoded]:
        """Unpack. Pixels are copied image by image: those that were sent are read-only."""
        import torch

        position = 0
        for key, source, error in self.rows:
            pixels = None if error is not None else torch.from_numpy(self.pixels[position].copy())
            position += error is None
            yield _Decoded(key, source, error, pixels)


def _decoded(tools: Tools, unit: EmbedUnit, decoders: ThreadPoolExecutor, *, ahead: int) -> Iterator[_Decoded]:
    """Decode the records of a shard, in order, at most `ahead` of them in advance."""
    waiting: deque[Future[_Decoded]] = deque()
    for record in read_shard(unit.shard):
        waiting.append(decoders.submit(_decode, tools, record, unit.views))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _decode(tools: Tools, record: Record, views: int) -> _Decoded:
    """Decode a record to [1 + views, 3, H, W] uint8, or note the reason why it cannot be decoded."""
    import torch

    from fewshot.errors import UnreadableImageError
    from fewshot.images import decode_pixels, side_before_resizing
    from fewshot.images.augmentation import augmented_view

    if record.data is None:
        return _Decoded(record.key, record.source, record.error, None)
    try:
        image = decode_pixels(record.data, min_side=side_before_resizing(tools.image_size))
    except UnreadableImageError as error:
        return _Decoded(record.key, record.source, str(error), None)
    content = content_digest(record.data) if views else ""  # The views are those of the content, whatever its name.
    augmented = (
        augmented_view(image, size=tools.image_size, seed=VIEW_SEED, key=content, view=view) for view in range(views)
    )
    return _Decoded(record.key, record.source, None, torch.stack([tools.crop(i) for i in (image, *augmented)]))


@dataclass(slots=True)
class _Output:
    """Output of the backbone, image after image, each with all its views."""

    clip: ClipBackbone
    views: int
    keeps_dense: bool
    features: list[Tensor] = field(default_factory=list)
    dense: list[Tensor] = field(default_factory=list)
    rows: int = 0

    def forward(self, waiting: list[Tensor], *, rest: bool = False) -> list[Tensor]:
        """Embed whole batches of the waiting images and return the rest; with `rest`, embed everything."""
        import torch

        if not waiting:
            return []
        images = torch.cat(waiting)
        whole = len(images) if rest else len(images) // self.clip.batch_size * self.clip.batch_size
        if self.keeps_dense:
            features, dense = self.clip.embed_dense(images[:whole])
            is_plain = torch.arange(self.rows, self.rows + whole) % self.views == 0
            self.dense.append(dense[is_plain])
        else:
            features = self.clip.embed_images(images[:whole])
        self.features.append(features)
        self.rows += whole
        return [images[whole:]] if whole < len(images) else []

    def arrays(self, dim: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return features [r, V, D] and, if they were kept, dense tokens [r, T, C]."""
        import torch

        features = torch.cat(self.features).numpy() if self.features else np.zeros((0, dim), np.float32)
        dense = torch.cat(self.dense).numpy() if self.dense else np.zeros((0, 0, 0), np.float16)
        return features.reshape(-1, self.views, dim), dense if self.keeps_dense else None


def _part(rows: list[_Decoded], output: _Output, *, dim: int) -> Part:
    errors = [row.error for row in rows]
    read = np.array([error is None for error in errors], dtype=bool)
    embedded, dense = output.arrays(dim)
    features = np.zeros((len(rows), output.views, dim), dtype=np.float32)
    features[read] = embedded
    embedded_rows = FeatureRows([row.key for row in rows], [row.source for row in rows], errors, features, dense)
    found = without_nonfinite(embedded_rows, _not_finite(output.clip))
    return Part(encode(found), counts(found.errors))


def _not_finite(clip: ClipBackbone) -> str:
    """Why an image has no features, though it was read."""
    name = str(clip.dtype).removeprefix("torch.")
    advice = '; set clip.precision = "bf16" or "fp32"' if name == "float16" else ""
    return f"the model's features of this image are not finite numbers in {name}{advice}"
