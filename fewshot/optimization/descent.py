"""The training loop of all methods: gradient descent on a few tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

Loss = Callable[[Mapping[str, Tensor], Tensor, torch.Generator], Tensor]
"""(parameters by name, row indices [b] int64, generator for further draws) -> scalar."""
Rate = Callable[[float], float]
"""Share of the training that is done, in [0, 1) -> share of the peak learning rate, in [0, 1]."""


def cosine(done: float) -> float:
    """Return half a cosine, from 1 at the start down to 0 at the end; see `Rate`."""
    return 0.5 * (1.0 + math.cos(math.pi * done))


def constant(done: float) -> float:
    """Return 1, all through the training; see `Rate`."""
    del done
    return 1.0


def descend(
    start: Mapping[str, Tensor],
    loss: Loss,
    *,
    optimizer: Callable[[Iterable[Tensor]], Optimizer],
    rows: int,
    batch_size: int,
    steps: int,
    seed: int,
    rate: Rate = cosine,
) -> dict[str, Tensor]:
    """Minimise a loss over batches of rows.

    Each epoch visits the rows in a new random order; its last batch may be smaller. For results that are independent of
    the order in which shots are listed, the caller sorts them by content first.

    Args:
        start: tensors to train, by name; they are copied.
        loss: the loss of a batch.
        optimizer: builds the optimizer for the parameters, with the peak learning rate.
        rows: number of rows, >= 1.
        batch_size: maximum number of rows in a step.
        steps: number of steps; 0 returns a copy of `start`.
        seed: of the order of the rows and the draws of `loss`.
        rate: the schedule of the learning rate, evaluated once for each step.

    Returns:
        The tensors after the last step, without gradients.
    """
    parameters = {name: value.detach().clone().requires_grad_() for name, value in start.items()}
    generator = torch.Generator().manual_seed(seed)
    algorithm = optimizer(list(parameters.values()))
    schedule = torch.optim.lr_scheduler.LambdaLR(algorithm, lambda step: rate(min(step, steps) / max(1, steps)))
    batches: list[Tensor] = []
    with torch.enable_grad():
        for _ in range(steps):
            if not batches:
                batches = list(torch.split(torch.randperm(rows, generator=generator), batch_size))
            algorithm.zero_grad(set_to_none=True)
            loss(parameters, batches.pop(0), generator).backward()  # type: ignore[no-untyped-call]
            algorithm.step()
            schedule.step()
    return {name: value.detach() for name, value in parameters.items()}
