"""A device that sleeps: forwards take a given time, copies theirs beside them, and calls return at once, as on CUDA."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fewshot.backbones.batch_device import BatchOutput, PixelBuffer


def sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


@dataclass(eq=False)
class SimulatedBuffer:
    """Its content is taken when the copy to the device ends: whoever writes earlier spoils the batch before."""

    pixels: np.ndarray
    copied_at: float = 0.0
    consumed_at: float = 0.0
    taken: SimulatedOutput | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self) -> None:
        sleep_until(self.copied_at)
        with self.lock:
            if self.taken is not None:
                self.taken.values, self.taken = self.pixels.reshape(len(self.pixels), -1)[:, :DIM].copy(), None


@dataclass(eq=False)
class SimulatedOutput:
    buffer: SimulatedBuffer
    rows: int
    ended_at: float
    busy_s: float
    keeps_dense: bool
    values: np.ndarray | None = None

    def wait(self) -> None:
        sleep_until(self.ended_at)
        self.buffer.wait()

    @property
    def features(self) -> Tensor:
        """The first D values of a row."""
        assert self.values is not None, "read before it is computed"
        return torch.from_numpy(self.values[: self.rows].astype(np.float32))

    @property
    def dense(self) -> Tensor | None:
        return self.features.half().unsqueeze(1) if self.keeps_dense else None


DIM = 3


@dataclass
class SimulatedDevice:
    """See the module.

    Attributes:
        batch_size: rows of a batch.
        batch_s: seconds of a forward.
        copy_s: seconds of the copy of a batch to the device.
        side: of an image.
        breaks_at: values of a first pixel that break the forward of their batch.
        batches: numbers of images of the forwards so far.
    """

    batch_size: int
    batch_s: float = 0.0
    copy_s: float = 0.0
    side: int = 2
    breaks_at: frozenset[int] = frozenset()
    batches: list[int] = field(default_factory=list)
    copies_until: float = 0.0
    busy_until: float = 0.0

    def new_buffer(self) -> SimulatedBuffer:
        return SimulatedBuffer(np.zeros((self.batch_size, 3, self.side, self.side), np.uint8))

    def forward(self, buffer: PixelBuffer, rows: int, *, dense: bool) -> SimulatedOutput:
        assert isinstance(buffer, SimulatedBuffer)
        if self.breaks_at & set(buffer.pixels[:rows, 0, 0, 0].tolist()):
            raise RuntimeError("the device is out of memory")
        self.batches.append(rows)
        copied_at = max(time.monotonic(), self.copies_until, buffer.consumed_at) + self.copy_s
        ended_at = max(copied_at, self.busy_until) + self.batch_s
        self.copies_until, self.busy_until = copied_at, ended_at
        output = SimulatedOutput(buffer, rows, ended_at, self.batch_s, dense)
        buffer.copied_at, buffer.consumed_at, buffer.taken = copied_at, ended_at, output
        return output

    def fetch(self, outputs: Sequence[BatchOutput]) -> list[tuple[Tensor, Tensor | None]]:
        for output in outputs:
            output.wait()
        return [(output.features, output.dense) for output in outputs]
