"""Gradient descent on a handful of tensors: the one training loop of the project."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

Loss = Callable[[Mapping[str, Tensor], Tensor, torch.Generator], Tensor]
"""Of (parameters by name, row indices [b] int64, generator for further draws): a scalar."""
Rate = Callable[[float], float]
"""Share of the peak learning rate, in [0, 1], for the share of training that is done, in [0, 1)."""


def cosine(done: float) -> float:
    """From 1 down to 0 along half a cosine."""
    return 0.5 * (1.0 + math.cos(math.pi * done))


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

    Rows are visited in epochs, each shuffled; the last batch of an epoch may be smaller. To be independent of the order
    in which shots were listed, the caller sorts them by content first.

    Args:
        start: tensors to train, by name; they are copied.
        loss: what to minimise.
        optimizer: made from the parameters, with the peak learning rate.
        rows: how many there are, >= 1.
        batch_size: rows in a step, at most.
        steps: how many; 0 returns a copy of `start`.
        seed: of the order and of `loss`'s draws.
        rate: the schedule, stepped once a step.

    Returns:
        The tensors after the last step, without gradients.
    """
    parameters = {name: value.detach().clone().requires_grad_() for name, value in start.items()}
    generator = torch.Generator().manual_seed(seed)
    descent = optimizer(list(parameters.values()))
    schedule = torch.optim.lr_scheduler.LambdaLR(descent, lambda step: rate(min(step, steps) / max(1, steps)))
    waiting: list[Tensor] = []
    with torch.enable_grad():
        for _ in range(steps):
            if not waiting:
                waiting = list(torch.split(torch.randperm(rows, generator=generator), batch_size))
            descent.zero_grad(set_to_none=True)
            loss(parameters, waiting.pop(0), generator).backward()  # type: ignore[no-untyped-call]
            descent.step()
            schedule.step()
    return {name: value.detach() for name, value in parameters.items()}
