"""The published learning rate of each epoch."""

from __future__ import annotations

import math

import pytest
import torch

from fewshot.prompt_learning.learning_rate import PEAK, make_optimizer, make_rate, published_rate


def rates(epochs, steps_per_epoch):
    """Return the learning rate of every step."""
    steps = epochs * steps_per_epoch
    rate = make_rate("sgd", steps=steps, steps_per_epoch=steps_per_epoch)
    return [PEAK * rate(step / steps) for step in range(steps)]


@pytest.mark.parametrize("epochs", [1, 2, 10, 50, 200])
@pytest.mark.parametrize("steps_per_epoch", [1, 3, 7])
def test_every_epoch_has_its_published_rate(epochs, steps_per_epoch):
    formula = [1e-5] + [0.001 * (1 + math.cos(math.pi * (epoch - 1) / epochs)) for epoch in range(1, epochs)]
    expected = [rate for rate in formula for _ in range(steps_per_epoch)]
    assert rates(epochs, steps_per_epoch) == pytest.approx(expected, rel=1e-9)


def test_the_last_rate_of_ten_epochs_is_not_zero():
    assert PEAK * published_rate(10)(0.99) == pytest.approx(1.9e-4, rel=0.01)


def test_stochastic_gradient_descent_decays_the_context_as_published():
    (group,) = make_optimizer("sgd", PEAK)([torch.zeros(1, requires_grad=True)]).param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (2e-3, 0.9, 5e-4, False)
