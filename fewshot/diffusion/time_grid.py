"""The time-steps that a score is made of, and the order in which they are scored.

The published grid (Diffusion Classifier, arXiv 2303.16203, and TiF, in code) takes every second of 1000 time-steps. A
weighted score spends forwards on steps that hardly count; `support_grid` spaces the steps by weight instead, so that a
plain mean over them estimates the weighted one, as long as the steps are few: TiF's weights for d = 10 have their mean
at t = 344, and so has a grid of 100 steps; one of 500 has it at 423, as a step cannot be taken twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fewshot.errors import DataError

Spacing = Literal["by-weight", "even"]
"""Steps at equal mass of the weights, which then count the same; or at equal distance, with their weights."""


@dataclass(frozen=True, slots=True)
class TimeGrid:
    """The time-steps of a score, which is the weighted sum of the errors at them.

    Attributes:
        steps: [n] int64, rising.
        weights: [n] float64, >= 0, not all 0.
    """

    steps: Tensor
    weights: Tensor


def time_grid(weights: Tensor, n: int, spacing: Spacing) -> TimeGrid:
    """Choose time-steps.

    Args:
        weights: [T] float64, >= 0, not all 0, of all time-steps of the model.
        n: at most so many, >= 1.
        spacing: see `Spacing`.

    Raises:
        DataError: none of the steps at equal distance has a weight.
    """
    if spacing == "by-weight":
        steps = support_grid(weights, min(n, int((weights > 0).sum())))
        return TimeGrid(steps, torch.ones(len(steps), dtype=torch.float64))
    steps = published_grid(min(n, len(weights)), len(weights))
    if not weights[steps].any():
        raise DataError(f"none of {len(steps)} time-steps at equal distance has a weight; take more, published are 500")
    return TimeGrid(steps, weights[steps].double())


def published_grid(n: int, T: int = 1000) -> Tensor:
    """Return n of T time-steps at equal distance; 500 of 1000 are 1, 3, ..., 999.

    Args:
        n: in [1, T].
        T: time-steps of the model.

    Returns:
        [n] int64, rising.
    """
    return _evenly_spaced(n, T)


def stage_entries(n: int, grid: int) -> Tensor:
    """Return the entries of a grid that a stage of n steps covers, those of earlier stages included.

    The published rule: from floor(floor(grid / n) / 2) on, every floor(grid / n)-th, at most n. Where n does not divide
    the grid, the last entries are not covered: 128 of 500 end at entry 382.

    Args:
        n: steps of the stage, in [1, grid].
        grid: entries of the grid.

    Returns:
        [n] int64, rising.
    """
    return _evenly_spaced(n, grid)


def spread_order(density: Tensor) -> Tensor:
    """Return a permutation of n entries of which every beginning is spread evenly over their density (van der Corput).

    Args:
        density: [n] float, > 0: how densely to score around each entry; ones for the same everywhere.

    Returns:
        [n] int64, a permutation of 0 ... n - 1.
    """
    n = len(density)
    bits = n.bit_length() + 2
    counts = torch.arange(2**bits)
    mirrored = torch.stack([(counts >> bit & 1) << (bits - 1 - bit) for bit in range(bits)]).sum(dim=0)
    mass = density.double().cumsum(dim=0)
    entries = torch.searchsorted(mass, (mirrored + 0.5) / 2**bits * mass[-1]).clamp(max=n - 1)
    first = torch.full((n,), 2**bits).scatter_reduce(0, entries, counts, "amin")
    # Entries without a point come last, the densest first.
    by_density = density.argsort(descending=True, stable=True)
    return by_density[first[by_density].argsort(stable=True)]


def support_grid(weights: Tensor, n: int, *, dropped: float = 0.0) -> Tensor:
    """Return time-steps at equal mass of the weights: the plain mean of errors over them estimates the weighted mean.

    The i-th step is where the cumulative weight passes (i + 1/2) / n of the total. A step that weighs more than 1 / n
    would be taken twice; its neighbours are taken instead. Up to n = total / largest weight there are none, and the two
    means agree (for d = 10, n = 267 of 1000; at n = 500 every second step hardly weighs anything).

    Args:
        weights: [T] float, >= 0, e.g. of `attribute_weights`.
        n: at most the number of steps of positive weight that are left.
        dropped: share of the weight, in [0, 1), that the largest time-steps may hold and still be left out.

    Returns:
        [n] int64, rising.

    Raises:
        DataError: there are fewer than n steps to choose from.
    """
    kept = without_tail(weights, dropped)
    steps = kept.nonzero().squeeze(1)
    if n > len(steps):
        raise DataError(f"got a grid of {n} time-steps, expected at most {len(steps)}: the others have no weight")
    mass = kept[steps].double().cumsum(dim=0)
    targets = (torch.arange(n, dtype=torch.float64) + 0.5) / n * mass[-1]
    wanted = torch.searchsorted(mass, targets).clamp(max=len(steps) - 1)
    return steps[_strictly_rising(wanted, len(steps))]


def without_tail(weights: Tensor, dropped: float) -> Tensor:
    """Return the weights, 0 at the largest time-steps, as many as together hold at most `dropped` of the sum.

    Args:
        weights: [T] float, >= 0.
        dropped: in [0, 1); 0 changes nothing.

    Returns:
        [T] float, >= 0.
    """
    held = weights.double().flip(0).cumsum(dim=0).flip(0)  # By a step and all after it.
    return torch.where(held <= dropped * held[0], 0, weights)


def _evenly_spaced(n: int, length: int) -> Tensor:
    stride = length // n
    return torch.arange(stride // 2, length, stride)[:n]


def _strictly_rising(wanted: Tensor, length: int) -> Tensor:
    """Return the rising sequence of distinct entries below `length` that is nearest to a non-falling one.

    Rising in i means that entry - i does not fall: pushed up from below, and down where the end is reached, the two
    averaged so that repeats spread to both sides.
    """
    n = len(wanted)
    positions = torch.arange(n)
    room = (wanted - positions).clamp(0, length - n)
    up, down = room.cummax(dim=0).values, room.flip(0).cummin(dim=0).values.flip(0)
    return (up + down) // 2 + positions
