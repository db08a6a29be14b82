"""The way of images through a worker: threads that decode, batches that they fill, one thread that has the device.

Units share all of it. Their rows meet in the same batches, and a batch is sent partly empty only when the device has
nothing else to do and no unit in flight has rows left, so hardly any computed row is padding. Each stage waits for the
next one only if that has no room: decoders for a free buffer, a buffer until the device has taken its pixels. A unit
waits for its own rows.

Who shares a batch with whom depends on time, and no bit of a row depends on it; see `fewshot.backbones.determinism`.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ray_jobs.steps.stage_meter import DEVICE, StageMeter

if TYPE_CHECKING:
    from torch import Tensor

    from fewshot.backbones.batch_device import BatchDevice, BatchOutput, PixelBuffer

T = TypeVar("T")

BUFFERS = 4
"""Batches on their way to the device: one that is computed, one that is copied, and two that are filled."""


class DecodePool:
    """Threads that decode. Images of the oldest unit come first, so that units end one after the other.

    Args:
        threads: number of threads, >= 1.
    """

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._lock = threading.Lock()
        self._queue: list[tuple[int, int, Future[Any], Callable[[], Any]]] = []
        self._numbers = count()

    def submit(self, unit: int, function: Callable[..., T], *arguments: object) -> Future[T]:
        """Call a function in one of the threads.

        Args:
            unit: the number of the unit; lower ones come first.
            function: is called once, unless its future is cancelled before.
            arguments: of the function.
        """
        future: Future[T] = Future()
        with self._lock:
            heapq.heappush(self._queue, (unit, next(self._numbers), future, lambda: function(*arguments)))
        self._threads.submit(self._run_next)
        return future

    def _run_next(self) -> None:
        with self._lock:
            _, _, future, call = heapq.heappop(self._queue)
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 -- it is raised where the result is taken
            future.set_exception(error)


@dataclass(eq=False, slots=True)
class _Batch:
    """A batch, from its first row to its output."""

    buffer: PixelBuffer
    claimed: int = 0
    written: int = 0
    is_closed: bool = False
    keeps_dense: bool = False
    output: Future[BatchOutput] = field(default_factory=Future)
    host_s: float = 0.0
    is_counted: bool = False

    @property
    def is_ready(self) -> bool:
        return self.is_closed and self.written == self.claimed


class DevicePipeline:
    """Puts rows of several units into batches, and those through the device.

    Args:
        device: embeds them. It gets whole batches, but for those that end when no unit in flight has rows left.
        meter: gets the time for which the device is busy.
        buffers: batches on their way to the device, >= 1.
    """

    def __init__(self, device: BatchDevice, meter: StageMeter, *, buffers: int = BUFFERS) -> None:
        self._device, self._meter = device, meter
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._changed = threading.Condition()
        self._free = deque(device.new_buffer() for _ in range(buffers))  # The one that was sent first is taken first.
        self._filling: _Batch | None = None
        self._newest: BatchOutput | None = None
        self._open = 0
        self._numbers = count()

    @contextmanager
    def unit(self, *, dense: bool) -> Iterator[UnitRows]:
        """Open the way for the rows of a unit. Leaving the context drops what is still put.

        Args:
            dense: keep the dense tokens of the first view of each image.
        """
        with self._changed:
            self._open += 1
            rows = UnitRows(self, next(self._numbers), keeps_dense=dense)
        try:
            yield rows
        finally:
            self.close(rows)

    def claim(self, rows: UnitRows) -> tuple[_Batch, int] | None:
        """Return a place for a row, perhaps after waiting for one; None if the unit has been closed."""
        with self._changed:
            while self._filling is None and not self._free and not rows.is_closed:
                self._changed.wait()
            if rows.is_closed:
                return None
            batch = self._filling or _Batch(self._free.popleft())
            position, batch.claimed = batch.claimed, batch.claimed + 1
            batch.keeps_dense |= rows.keeps_dense
            self._filling = batch
            if batch.claimed == self._device.batch_size:
                self._close_filling()
        return batch, position

    def write(self, batch: _Batch, position: int, pixels: Tensor | np.ndarray) -> None:
        """Write a row, [3, H, W] uint8, to its place."""
        try:
            batch.buffer.wait()
            np.copyto(batch.buffer.pixels[position], pixels)
        finally:
            with self._changed:
                batch.written += 1
                self._start_if_ready(batch)

    def close(self, rows: UnitRows) -> None:
        """Take no more rows of a unit. If no other unit is open, what waits is sent once the device is idle."""
        with self._changed:
            if rows.is_closed:
                return
            rows.is_closed = True
            self._open -= 1
            if self._rest_is_final:
                self._thread.submit(self._flush)
            self._changed.notify_all()

    def fetch(self, batches: Sequence[_Batch]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Wait for batches, and return their features and dense tokens; [0] where these are not kept.

        Raises:
            Exception: what a forward raised.
        """
        outputs = [batch.output.result() for batch in batches]
        fetched = self._device.fetch(outputs)
        for batch, output in zip(batches, outputs, strict=True):
            self._count(batch, output)
        none = np.zeros(0, np.float16)
        return [(features.numpy(), none if dense is None else dense.numpy()) for features, dense in fetched]

    def _count(self, batch: _Batch, output: BatchOutput) -> None:
        """Count the time of a batch once, though several units fetch it."""
        with self._changed:
            was_counted, batch.is_counted = batch.is_counted, True
        if not was_counted:
            self._meter.add(DEVICE, batch.host_s if output.busy_s is None else output.busy_s)

    @property
    def _rest_is_final(self) -> bool:
        """Whether rows wait in a batch that no open unit will fill."""
        return not self._open and self._filling is not None

    def _flush(self) -> None:
        """Send a batch that is partly empty, unless a unit began while the device was at work on the others."""
        if self._newest is not None:
            with suppress(Exception):  # Of that forward: it is raised where its output is fetched.
                self._newest.wait()
        with self._changed:
            if self._rest_is_final:
                batch = self._close_filling()
                self._start_if_ready(batch)

    def _close_filling(self) -> _Batch:
        assert self._filling is not None
        batch, self._filling = self._filling, None
        batch.is_closed = True
        return batch

    def _start_if_ready(self, batch: _Batch) -> None:
        if batch.is_ready:
            self._thread.submit(self._run, batch)

    def _run(self, batch: _Batch) -> None:
        started = self._meter.clock()
        try:
            output = self._device.forward(batch.buffer, batch.claimed, dense=batch.keeps_dense)
        except BaseException as error:  # noqa: BLE001 -- it is raised in every unit with rows in this batch
            batch.output.set_exception(error)
        else:
            batch.host_s = self._meter.clock() - started
            self._newest = output
            batch.output.set_result(output)
        finally:
            with self._changed:
                self._free.append(batch.buffer)
                self._changed.notify_all()


@dataclass(eq=False, slots=True)
class UnitRows:
    """The rows of one unit on their way through the device.

    Attributes:
        pipeline: where they go.
        number: of the unit, in the order of their beginnings.
        keeps_dense: whether dense tokens are kept.
        is_closed: whether no more rows are taken.
    """

    pipeline: DevicePipeline
    number: int
    keeps_dense: bool
    is_closed: bool = False
    _places: list[tuple[int, int, _Batch, int]] = field(default_factory=list)

    def put(self, image: int, views: Tensor | np.ndarray) -> None:
        """Put an image into batches, perhaps after waiting for room. May be called in several threads.

        Args:
            image: its number in the unit.
            views: [V, 3, H, W] uint8.
        """
        for view, pixels in enumerate(views):
            place = self.pipeline.claim(self)
            if place is None:
                return
            self._places.append((image, view, *place))
            self.pipeline.write(*place, pixels)

    def finish(self, dim: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Take no more rows, and wait for all of them.

        Args:
            dim: D, of units without any.

        Returns:
            Features [r * V, D] float32 of r images in the order of their numbers, each with its V views, and the dense
            tokens [r, T, C] float16 of their first views; None if they are not kept.

        Raises:
            Exception: what a forward with one of the rows raised.
        """
        self.pipeline.close(self)
        places = sorted(self._places, key=lambda place: place[:2])
        batches = list(dict.fromkeys(batch for _, _, batch, _ in places))
        outputs = dict(zip(batches, self.pipeline.fetch(batches), strict=True))
        features = _gather([(outputs[batch][0], at) for _, _, batch, at in places], (0, dim), np.float32)
        if not self.keeps_dense:
            return features, None
        tokens = [(outputs[batch][1], at) for _, view, batch, at in places if not view]
        return features, _gather(tokens, (0, 0, 0), np.float16)


def _gather(rows: Sequence[tuple[np.ndarray, int]], empty: tuple[int, ...], kind: type[np.generic]) -> np.ndarray:
    """Return one row of each array."""
    return np.stack([array[at] for array, at in rows]) if rows else np.zeros(empty, kind)
