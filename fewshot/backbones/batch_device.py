"""A model as a device that takes batches one after the other, while others are copied there and back.

`BatchDevice` is the contract: buffers of pixels on the host that threads fill, forwards that begin in the order of
their calls, and outputs that stay on the device until they are fetched. On CUDA nothing in `forward` waits for the
device: a batch goes from pinned memory to the device on a stream of its own, is cast and normalised there, and its
output is fetched on a third stream, while the next batches are computed. On a CPU a forward is done when it returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from fewshot.backbones.backbone import Backbone


class PixelBuffer(Protocol):
    """Memory for the pixels of one batch."""

    @property
    def pixels(self) -> np.ndarray:
        """[B, 3, H, W] uint8 on the host, to be written after `wait`; writers of different rows may be threads."""
        ...

    def wait(self) -> None:
        """Wait until the device has taken the pixels of the last forward. May be called in several threads."""
        ...


class BatchOutput(Protocol):
    """The output of a forward, which may still be running."""

    @property
    def features(self) -> Tensor:
        """[rows, D] float32 on the device."""
        ...

    @property
    def dense(self) -> Tensor | None:
        """[rows, T, C] float16 on the device; None if they were not kept."""
        ...

    def wait(self) -> None:
        """Wait until it is computed."""
        ...

    @property
    def busy_s(self) -> float | None:
        """Seconds that the device was at work on it, by its own clock; known once it was fetched. None: no clock."""
        ...


class BatchDevice(Protocol):
    """A device that embeds batches; see the module. `forward` is for one thread, all other methods for any."""

    @property
    def batch_size(self) -> int:
        """Rows of a batch, B."""
        ...

    def new_buffer(self) -> PixelBuffer:
        """Allocate a buffer."""
        ...

    def forward(self, buffer: PixelBuffer, rows: int, *, dense: bool) -> BatchOutput:
        """Begin to embed a batch.

        Args:
            buffer: whose first rows are images; the others are ignored.
            rows: number of images, in [1, B].
            dense: keep the tokens that the tower's last layer pools, too.
        """
        ...

    def fetch(self, outputs: Sequence[BatchOutput]) -> list[tuple[Tensor, Tensor | None]]:
        """Wait for forwards, and return their outputs on the CPU.

        Returns:
            For each, the features [rows, D] float32 and the tokens [rows, T, C] float16; None if they were not kept.
        """
        ...


def batch_device(clip: Backbone) -> BatchDevice:
    """Return the device of a backbone."""
    return CudaDevice(clip) if clip.device.type == "cuda" else HostDevice(clip)


@dataclass(frozen=True, slots=True)
class HostBuffer:
    """A buffer of a device that computes in the memory of the host."""

    pixels: np.ndarray

    def wait(self) -> None:
        """Do nothing: a forward has ended when it returns."""


@dataclass(frozen=True, slots=True)
class HostOutput:
    """Features [rows, D] and perhaps tokens [rows, T, C], computed."""

    features: Tensor
    dense: Tensor | None
    busy_s: float | None = None

    def wait(self) -> None:
        """Do nothing: it is computed."""


@dataclass(frozen=True, slots=True)
class HostDevice:
    """A backbone on the CPU."""

    clip: Backbone

    @property
    def batch_size(self) -> int:
        """See `BatchDevice`."""
        return self.clip.batch_size

    def new_buffer(self) -> HostBuffer:
        """See `BatchDevice`."""
        return HostBuffer(np.zeros(_shape(self.clip), np.uint8))

    def forward(self, buffer: PixelBuffer, rows: int, *, dense: bool) -> HostOutput:
        """See `BatchDevice`. Returns when the forward has ended."""
        images = torch.from_numpy(buffer.pixels[:rows])
        if dense:
            return HostOutput(*self.clip.embed_dense(images))
        return HostOutput(self.clip.embed_images(images), None)

    def fetch(self, outputs: Sequence[BatchOutput]) -> list[tuple[Tensor, Tensor | None]]:
        """See `BatchDevice`."""
        return [(output.features, output.dense) for output in outputs]


@dataclass(frozen=True, slots=True, eq=False)
class CudaBuffer:
    """Pinned memory, its copy on the device, and what was done with both.

    Attributes:
        host: [B, 3, H, W] uint8, pinned.
        device: the same on the device.
        copied: event after the last copy from `host` to `device`.
        consumed: event after the last forward's use of `device`.
    """

    host: Tensor
    device: Tensor
    copied: Any
    consumed: Any

    @property
    def pixels(self) -> np.ndarray:
        """See `PixelBuffer`."""
        view: np.ndarray = self.host.numpy()
        return view

    def wait(self) -> None:
        """See `PixelBuffer`."""
        self.copied.synchronize()


@dataclass(frozen=True, slots=True, eq=False)
class CudaOutput:
    """Output of a batch on the device, between two events with times.

    Attributes:
        features: [rows, D] float32.
        dense: [rows, T, C] float16; None if not kept.
        began, ended: events around the forward.
    """

    features: Tensor
    dense: Tensor | None
    began: Any
    ended: Any

    def wait(self) -> None:
        """See `BatchOutput`."""
        self.ended.synchronize()

    @property
    def busy_s(self) -> float:
        """See `BatchOutput`."""
        milliseconds: float = self.began.elapsed_time(self.ended)
        return milliseconds / 1000


class CudaDevice:
    """A backbone on a GPU. Tested with fake tensors and pretended streams only, where there is no GPU.

    Args:
        clip: the backbone.
    """

    def __init__(self, clip: Backbone) -> None:
        self._clip = clip
        self._uploads, self._fetches = (_stream(clip.device) for _ in range(2))

    @property
    def batch_size(self) -> int:
        """See `BatchDevice`."""
        return self._clip.batch_size

    def new_buffer(self) -> CudaBuffer:
        """See `BatchDevice`."""
        shape = _shape(self._clip)
        return CudaBuffer(
            host=torch.zeros(shape, dtype=torch.uint8, pin_memory=True),
            device=torch.zeros(shape, dtype=torch.uint8, device=self._clip.device),
            copied=_event(),
            consumed=_event(),
        )

    @torch.inference_mode()
    def forward(self, buffer: PixelBuffer, rows: int, *, dense: bool) -> CudaOutput:
        """See `BatchDevice`. Only queues work: rows without an image hold what an earlier batch left there."""
        assert isinstance(buffer, CudaBuffer)
        compute = torch.cuda.current_stream(self._clip.device)
        with torch.cuda.stream(self._uploads):
            self._uploads.wait_event(buffer.consumed)
            buffer.device.copy_(buffer.host, non_blocking=True)
            buffer.copied.record(self._uploads)
        compute.wait_event(buffer.copied)
        began, ended = (_event(timed=True) for _ in range(2))
        began.record(compute)
        features, tokens = self._encode(buffer.device, dense=dense)
        ended.record(compute)
        buffer.consumed.record(compute)
        return CudaOutput(features[:rows], None if tokens is None else tokens[:rows], began, ended)

    def _encode(self, pixels: Tensor, *, dense: bool) -> tuple[Tensor, Tensor | None]:
        return self._clip.encode_dense(pixels) if dense else (self._clip.encode_pixels(pixels), None)

    @torch.inference_mode()
    def fetch(self, outputs: Sequence[BatchOutput]) -> list[tuple[Tensor, Tensor | None]]:
        """See `BatchDevice`. Waits for these forwards only, not for those queued since."""
        arrived, copies = _event(), []
        with torch.cuda.stream(self._fetches):
            for output in outputs:
                assert isinstance(output, CudaOutput)
                self._fetches.wait_event(output.ended)
                dense = None if output.dense is None else _to_host(output.dense)
                copies.append((_to_host(output.features), dense))
            arrived.record(self._fetches)
        arrived.synchronize()
        return copies


def _shape(clip: Backbone) -> tuple[int, int, int, int]:
    return clip.batch_size, 3, *clip.input_size


def _stream(device: torch.device) -> Any:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _event(*, timed: bool = False) -> Any:
    return torch.cuda.Event(enable_timing=timed)  # type: ignore[no-untyped-call]


def _to_host(tensor: Tensor) -> Tensor:
    """Begin to copy into pinned memory."""
    return tensor.to("cpu", non_blocking=True)
