"""The step that embeds: records in, a part of features out. A worker loads the backbone once.

Several units live in a worker at a time and share its stages (`device_pipeline`): each reads its records, threads of
the worker decode them, and batches with rows of all units go through the device. Pixels never leave the process. With
helpers they do: machines without a GPU read and decode whole units, and their pixels travel to the worker.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cluster import Part, StageReport, Workers
from cluster.execution.worker import WRITING
from cluster.records import Record, Shard, content_digest, read_shard
from fewshot.backbones import ClipSpec
from ray_jobs.output.feature_parts import FeatureRows, counts, encode, without_nonfinite
from ray_jobs.results.stage_load import StageLoad
from ray_jobs.steps.device_pipeline import DecodePool, DevicePipeline, UnitRows
from ray_jobs.steps.gpu_share import gpu_errors, keep_to_share
from ray_jobs.steps.stage_meter import DECODING, READING, StageMeter

if TYPE_CHECKING:
    from torch import Tensor

    from fewshot.backbones import Backbone
    from fewshot.backbones.image_crop import Crop

VIEW_SEED = 0
"""Of the augmented views. The same for every job, so that examples are embedded once whatever draws them."""
READ_AHEAD = 16
"""Images of a unit that are read but not decoded, at least, whatever the number of threads that decode."""


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
    """State of a worker: the backbone, and the stages on the way to it.

    Attributes:
        clip: the backbone.
        decoders: threads that decode.
        pipeline: the device, and the batches on their way to it.
        meter: how long each stage is busy.
        dim: D, size of a feature.
    """

    clip: Backbone
    decoders: DecodePool
    pipeline: DevicePipeline
    meter: StageMeter
    dim: int

    @classmethod
    def from_clip(cls, clip: Backbone, *, decode_threads: int, dim: int) -> Embedder:
        """Put the stages before a backbone."""
        from fewshot.backbones.batch_device import batch_device

        meter = StageMeter()
        return cls(clip, DecodePool(decode_threads), DevicePipeline(batch_device(clip), meter), meter, dim)


@dataclass(frozen=True, slots=True)
class EmbedStep:
    """Embeds images with a CLIP.

    Attributes:
        spec: the CLIP, and how it runs.
        decode_threads: threads of a worker that decode; the result does not depend on them.
        helper_threads: threads of a helper that decode.
    """

    spec: ClipSpec
    decode_threads: int = 2
    helper_threads: int = 2

    @classmethod
    def for_workers(cls, spec: ClipSpec, workers: Workers) -> EmbedStep:
        """Return a step that decodes with the CPUs of its workers, and of their helpers: at least with two threads.

        On a CPU the forward is most of the work, and one thread is idle while it waits for storage.
        """
        helpers = 0.0 if workers.helpers is None else workers.helpers.cpus
        return cls(spec, max(2, math.ceil(workers.cpus)), max(2, math.ceil(helpers)))

    def load(self, reports: Sequence[StageReport]) -> StageLoad | None:
        """Return how busy the stages of the workers were; None if nothing was embedded."""
        busy_s: Counter[str] = Counter()
        for report in reports:
            busy_s.update(report.busy_s)
        units_s = sum(report.units_s for report in reports)
        return StageLoad.from_seconds(busy_s, units_s=units_s, threads=self.decode_threads)

    def setup(self) -> Embedder:
        """Load the backbone."""
        from fewshot.backbones import load_backbone

        keep_to_share()
        clip = load_backbone(self.spec)
        return Embedder.from_clip(clip, decode_threads=self.decode_threads, dim=clip.dim)

    def run(self, state: Embedder, unit: EmbedUnit) -> Part:
        """Embed a shard: a row for every record, also for broken ones."""
        with gpu_errors(), state.meter.unit(), state.pipeline.unit(dense=unit.dense) as rows:
            decoder = _ShardDecoder(self.tools(state), state.decoders, state.meter, rows.put, rows.number)
            records = decoder.decode_shard(unit, ahead=max(READ_AHEAD, 2 * self.decode_threads))
            return _part(state, unit, records, rows)

    def tools(self, state: Embedder) -> Tools:
        """Return what decoding needs of the backbone."""
        return Tools(state.clip.crop, state.clip.longer_side)

    def prepare(self, tools: Tools, unit: EmbedUnit) -> Pixels:
        """Read and decode a shard."""
        pixels: dict[int, Tensor] = {}
        decoder = _ShardDecoder(tools, DecodePool(self.helper_threads), StageMeter(), pixels.__setitem__)
        records = decoder.decode_shard(unit, ahead=max(READ_AHEAD, 2 * self.helper_threads))
        return Pixels.from_images(records, pixels)

    def run_prepared(self, state: Embedder, unit: EmbedUnit, prepared: Pixels) -> Part:
        """Embed a shard that was decoded elsewhere."""
        with gpu_errors(), state.meter.unit(), state.pipeline.unit(dense=unit.dense) as rows:
            for image, views in enumerate(prepared.pixels):
                rows.put(image, views)
            return _part(state, unit, prepared.rows, rows)


class Row(NamedTuple):
    """A record without its content: its key, the object that holds it, why it cannot be read, and its size.

    `error` is None if it can be read.
    """

    key: str
    source: str
    error: str | None
    num_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Tools:
    """What decoding needs of the backbone; see `Backbone`."""

    crop: Crop
    longer_side: int


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
        rows: of every record.
        pixels: [r, 1 + views, 3, H, W] uint8 of the r records that were read, in order.
    """

    rows: list[Row]
    pixels: np.ndarray

    @classmethod
    def from_images(cls, rows: list[Row], pixels: Mapping[int, Tensor]) -> Pixels:
        """Pack decoded images, by the position of their rows."""
        read = [pixels[index].numpy() for index in sorted(pixels)]
        return cls(rows, np.stack(read) if read else np.zeros((0, 0, 3, 0, 0), np.uint8))


@dataclass(frozen=True, slots=True)
class _ShardDecoder:
    """Reads a shard and decodes its images in threads.

    Attributes:
        tools: for decoding.
        decoders: the threads.
        meter: of the worker.
        put: takes the number of an image and its pixels [1 + views, 3, H, W]; may wait until there is room for them.
        number: of the unit; lower ones are decoded first.
    """

    tools: Tools
    decoders: DecodePool
    meter: StageMeter
    put: Callable[[int, Tensor], None]
    number: int = 0

    def decode_shard(self, unit: EmbedUnit, *, ahead: int) -> list[Row]:
        """Read and decode the records of a shard, and return their rows.

        Args:
            unit: the shard.
            ahead: records that are read and not decoded, at most.
        """
        waiting: deque[Future[Row]] = deque()
        rows = []
        try:
            for index, record in enumerate(self.meter.waits(READING, read_shard(unit.shard))):
                waiting.append(self.decoders.submit(self.number, self._decode, index, record, unit.views))
                if len(waiting) > ahead:
                    rows.append(waiting.popleft().result())
            rows.extend(future.result() for future in waiting)
        finally:
            for future in waiting:
                future.cancel()
        return rows

    def _decode(self, index: int, record: Record, views: int) -> Row:
        with self.meter.measured(DECODING):
            image = _decode(self.tools, record, views)
        if image.pixels is not None:
            self.put(index, image.pixels)
        return Row(image.key, image.source, image.error, 0 if record.data is None else len(record.data))


def _decode(tools: Tools, record: Record, views: int) -> _Decoded:
    """Decode a record to [1 + views, 3, H, W] uint8, or note the reason why it cannot be decoded."""
    import torch

    from fewshot.errors import UnreadableImageError
    from fewshot.images import decode_pixels, side_before_resizing
    from fewshot.images.augmentation import augmented_view

    if record.data is None:
        return _Decoded(record.key, record.source, record.error, None)
    try:
        image = decode_pixels(record.data, min_side=side_before_resizing(tools.longer_side))
    except UnreadableImageError as error:
        return _Decoded(record.key, record.source, str(error), None)
    content = content_digest(record.data) if views else ""  # The views are those of the content, whatever its name.
    augmented = (
        augmented_view(image, size=tools.longer_side, seed=VIEW_SEED, key=content, view=view) for view in range(views)
    )
    return _Decoded(record.key, record.source, None, torch.stack([tools.crop(i) for i in (image, *augmented)]))


def _part(state: Embedder, unit: EmbedUnit, records: list[Row], rows: UnitRows) -> Part:
    """Wait for the rows of a unit, and return its part."""
    embedded, dense = rows.finish(state.dim)
    with state.meter.measured(WRITING):
        errors = [record.error for record in records]
        read = np.array([error is None for error in errors], dtype=bool)
        features = np.zeros((len(records), 1 + unit.views, state.dim), dtype=np.float32)
        features[read] = embedded.reshape(-1, 1 + unit.views, state.dim)
        keys, sources = [record.key for record in records], [record.source for record in records]
        found = without_nonfinite(FeatureRows(keys, sources, errors, features, dense), _not_finite(state.clip))
        data = encode(found)
    summary = counts(found.errors) | {"bytes_read": float(sum(record.num_bytes for record in records))}
    return Part(data, summary, state.meter.take())


def _not_finite(clip: Backbone) -> str:
    """Why an image has no features, though it was read."""
    name = str(clip.dtype).removeprefix("torch.")
    advice = '; set clip.precision = "bf16" or "fp32"' if name == "float16" else ""
    return f"the model's features of this image are not finite numbers in {name}{advice}"
