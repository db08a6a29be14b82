"""The GPU of a worker: its share of it, which Ray counts but does not enforce, and errors after which it is lost.

After an error of the GPU, CUDA refuses every call of the process, so that no later unit can succeed in it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cluster.errors import WorkerBrokenError
from ray_jobs.errors import JobError

if TYPE_CHECKING:
    import torch

CONTEXT_BYTES = 640 << 20
"""Memory of a process's CUDA context and kernels, outside of what torch limits."""
CUDA_ERROR = "CUDA error"
"""How messages of such errors begin, in all versions of torch; an error for lack of memory has another message."""


def memory_fraction(share: float, total_bytes: int) -> float:
    """Return the share of a GPU's memory that a worker's tensors may take.

    Args:
        share: share of the GPU that the worker has, in (0, 1].
        total_bytes: memory of the GPU.

    Returns:
        in (0, 1].

    Raises:
        JobError: the share has no room for a CUDA context.
    """
    fraction = share - CONTEXT_BYTES / total_bytes
    if fraction <= 0:
        least = math.ceil(100 * CONTEXT_BYTES / total_bytes) / 100 + 0.01
        problem = (
            f"cluster.gpus_per_worker is {share:g} of a GPU of {total_bytes / 2**30:.1f} GiB, and each process needs "
            f"{CONTEXT_BYTES / 2**30:.1f} GiB before anything is loaded. Set cluster.gpus_per_worker to at least "
            f"{least:.2f}"
        )
        raise JobError([problem])
    return fraction


def assigned_gpus() -> float:
    """Return the GPUs of this process if it is a worker on Ray; 0 elsewhere, and without any."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return 0.0
    context = ray.get_runtime_context()
    return float(context.get_assigned_resources().get("GPU", 0.0)) if context.get_actor_id() else 0.0


def device_memory(device: torch.device) -> int | None:
    """Return the bytes of a GPU that this worker's tensors may take; None for a CPU.

    Raises:
        JobError: see `memory_fraction`.
    """
    import torch

    if device.type != "cuda":
        return None
    total, share = torch.cuda.get_device_properties(device).total_memory, assigned_gpus()
    return int(memory_fraction(share, total) * total) if 0.0 < share < 1.0 else int(total)


def keep_to_share() -> None:
    """Limit torch to this worker's share of its GPU, so that a worker that takes too much fails alone.

    Raises:
        JobError: see `memory_fraction`.
    """
    import torch

    share = assigned_gpus()
    if 0.0 < share < 1.0 and torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(memory_fraction(share, total))


@contextmanager
def gpu_errors() -> Iterator[None]:
    """Raise WorkerBrokenError instead of an error of the GPU, so that another process takes over the units."""
    try:
        yield
    except RuntimeError as error:
        if str(error).startswith(CUDA_ERROR):
            raise WorkerBrokenError(
                f"{error} Another worker takes over its units; in one process, run again."
            ) from error
        raise
