"""Rates on a device whose work is asynchronous, their floating-point operations, and their peak of memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode

WARM_UP, MIN_S = 2, 2.0
"""Calls before a measurement, and its shortest time in seconds."""
MOST_CALLS = 64
"""Calls that are queued before the device is waited for."""

Row = Mapping[str, str | float]


def row(what: str, how: str, rate: float, flops: float, limit: float, peak_gib: float = 0.0) -> Row:
    """Return a row of the table; `limit` is what `matmul_flops` returned."""
    return {
        "what": what,
        "how": how,
        "a second": rate,
        "TFLOP/s": flops / 1e12,
        "share of the matrix product": flops / limit,
        "peak GiB": peak_gib,
    }


def matmul_flops(size: int, device: torch.device, dtype: torch.dtype) -> float:
    """Return the floating-point operations a second of a product of two square matrices."""
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(left)
    return 2 * size**3 * calls_per_second(lambda: torch.mm(left, right, out=out), device)


def calls_per_second(call: Callable[[], object], device: torch.device) -> float:
    """Call a function without waiting for the device in between, until the device has worked for `MIN_S`."""
    for _ in range(WARM_UP):
        call()
    wait_for(device)
    started, calls, elapsed, turn = time.monotonic(), 0, 0.0, 1
    while elapsed < MIN_S:
        for _ in range(turn):
            call()
        wait_for(device)
        calls, elapsed = calls + turn, time.monotonic() - started
        turn = min(2 * turn, MOST_CALLS)
    return calls / elapsed


def wait_for(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release(device: torch.device) -> None:
    """Give memory that no tensor uses back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], float]]:
    """Yield a function that returns the peak of the device's memory since then, in GiB; 0 on a CPU."""
    if device.type != "cuda":
        yield lambda: 0.0
        return
    torch.cuda.reset_peak_memory_stats(device)
    yield lambda: torch.cuda.max_memory_allocated(device) / 2**30


def flops_of(call: Callable[[], object]) -> int:
    """Return the floating-point operations of a call."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())
