"""A GPU that several workers share: Ray counts fractions of it, but keeps nobody to them."""

from __future__ import annotations

import sys

from ray_jobs.errors import JobError

CONTEXT_BYTES = 640 << 20
"""What a process's CUDA context and kernels take of a GPU, outside of the memory that torch limits."""


def memory_fraction(share: float, total_bytes: int) -> float:
    """The share of a GPU's memory that a worker's tensors may take.

    Args:
        share: of the GPU that the worker was given, in (0, 1].
        total_bytes: memory of the GPU.

    Returns:
        in (0, 1].

    Raises:
        JobError: the share has no room for a CUDA context.
    """
    fraction = share - CONTEXT_BYTES / total_bytes
    if fraction <= 0:
        problem = (
            f"cluster.gpus_per_worker is {share:g} of a GPU of {total_bytes / 2**30:.1f} GiB, and each process needs "
            f"{CONTEXT_BYTES / 2**30:.1f} GiB before it has loaded anything. Give workers more of it"
        )
        raise JobError([problem])
    return fraction


def assigned_gpus() -> float:
    """GPUs that this process was given as a worker on Ray; 0 anywhere else, and where it was given none."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return 0.0
    context = ray.get_runtime_context()
    return float(context.get_assigned_resources().get("GPU", 0.0)) if context.get_actor_id() else 0.0


def keep_to_share() -> None:
    """Limit torch to this worker's share of its GPU, so that one that takes too much fails alone.

    Raises:
        JobError: see `memory_fraction`.
    """
    import torch

    share = assigned_gpus()
    if 0.0 < share < 1.0 and torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(memory_fraction(share, total))
