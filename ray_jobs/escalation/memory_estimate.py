"""The memory of adapter training on a GPU like the one of this machine, before any is trained."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from fewshot.errors import DataError
from ray_jobs.results.cost_plan import BlockMemory
from ray_jobs.steps.diffusion_worker import DiffusionWorker
from ray_jobs.steps.gpu_share import memory_fraction

if TYPE_CHECKING:
    from fewshot.diffusion.adapter_training import AdapterSettings


def estimate_memory(
    worker: DiffusionWorker,
    settings: Collection[AdapterSettings],
    *,
    block_size: int,
    with_prior: bool,
    share: float | None,
) -> BlockMemory:
    """Return the memory that the largest of some trainings takes, and whether a worker has it.

    Args:
        worker: with the model, on this machine.
        settings: that classes may be trained with, at least one.
        block_size: classes of a block.
        with_prior: whether there are prior images.
        share: GPUs of a worker of the job, a fraction where several share one; None for a whole one.

    Raises:
        JobError: see `memory_fraction`.
    """
    from fewshot.diffusion.training_memory import TrainingShape, choose_checkpointing

    shapes = {TrainingShape.from_settings(each, block_size=block_size, with_prior=with_prior) for each in settings}
    shape = max(shapes, key=lambda each: worker.count_memory(each).least_bytes)
    memory, available, problem = worker.count_memory(shape), worker.memory_bytes, None
    if available is not None and share is not None and 0.0 < share < 1.0:
        available = int(memory_fraction(share, available) * available)
    checkpointing = None
    try:
        checkpointing = None if available is None else choose_checkpointing(memory, shape, available)
    except DataError as error:
        problem = str(error)
    return BlockMemory(
        classes=block_size,
        plain_bytes=memory.plain_bytes,
        least_bytes=memory.least_bytes,
        device_bytes=available,
        checkpointing=checkpointing,
        problem=problem,
    )
