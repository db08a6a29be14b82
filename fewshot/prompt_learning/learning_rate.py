"""The learning rate of CoOp and CoCoOp as published (arXiv 2109.01134, 2203.05557), for `optimizer = "sgd"`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from fewshot.optimization.descent import Rate, cosine

OptimizerName = Literal["adam", "sgd"]
PEAK = 2e-3
"""The published peak rate."""
WARM_UP = 1e-5
"""The published rate of the first epoch."""


def published_rate(epochs: int) -> Rate:
    """Return one epoch of warm-up at 1e-5, then half a cosine in one step per epoch, whose last value is not zero.

    As a share of the peak 2e-3, epoch 0 has 1/200 and epoch t > 0 has (1 + cos(pi (t - 1) / T)) / 2.

    Args:
        epochs: T >= 1.
    """

    def rate(done: float) -> float:
        epoch = min(math.floor(done * epochs + 1e-9), epochs - 1)
        return WARM_UP / PEAK if epoch == 0 else 0.5 * (1.0 + math.cos(math.pi * (epoch - 1) / epochs))

    return rate


def make_optimizer(name: OptimizerName, learning_rate: float) -> Callable[[Iterable[Tensor]], Optimizer]:
    """Return a factory of Adam, or of stochastic gradient descent with the published momentum 0.9 and decay 5e-4."""
    if name == "adam":
        return lambda parameters: torch.optim.Adam(parameters, lr=learning_rate)
    return lambda parameters: torch.optim.SGD(parameters, lr=learning_rate, momentum=0.9, weight_decay=5e-4)


def make_rate(name: OptimizerName, *, steps: int, steps_per_epoch: int) -> Rate:
    """Return half a cosine over all steps for Adam, the published schedule for stochastic gradient descent."""
    return cosine if name == "adam" else published_rate(max(1, steps // steps_per_epoch))
