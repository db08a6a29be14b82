"""GDA-U as functions of tensors: class means that learn from unlabelled images, a tile of these at a time.

A pass over the sample is a map and a reduction: a tile gives the responsibilities of the classes for its images, and
only sums leave it, K numbers for the balance and K x D for the means. All is float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from fewshot.gaussian_classes import Plane
from fewshot.optimization.content_order import by_content
from fewshot.problem import Labelled

ROUNDS, BALANCE_ROUNDS = 3, 20
TILE_SCORES = 2**21
"""Scores of a tile: 16 MiB."""
BALANCE_SCORES = 2**27
"""Scores that are kept for the balance: 1 GiB. It is found on the first images of a sample that has more."""
LEAST_MASS = 1e-12
"""Share of the sample that a class is taken to have at least, so that logarithms are finite."""


@dataclass(frozen=True, slots=True)
class Anchors:
    """Where the class means are without unlabelled images, and how firmly.

    Attributes:
        means: [K, D] float64.
        weights: [K] float64, > 0: of each class, number of labelled images; 1 of a class without any.
    """

    means: Tensor
    weights: Tensor


def in_order_of_content(sample: Tensor) -> Tensor:
    """Return the rows of a sample [M, D] in an order that follows from them alone, so that sums have the same bits."""
    unlabelled = Labelled(sample[:, None], torch.zeros(len(sample), dtype=torch.int64))
    return sample[by_content(unlabelled)]


def learned_means(
    anchors: Anchors, sample: Tensor, scores: Callable[[Tensor], Plane], *, shares: Tensor, firmness: float
) -> Tensor:
    """Return class means that labelled and unlabelled images share.

    A labelled image weighs like M / K unlabelled ones, which is all that a class with an even share gets of the sample.

    Args:
        anchors: of the labelled images.
        sample: [M, D] unit rows, M >= 1.
        scores: returns, for means [K, D], the logits of the classes and, last, of the background: a plane of K + 1.
        shares: [K] float64, sum 1: the shares of the classes among images of any class.
        firmness: rho of `balance`.

    Returns:
        [K, D] float64.
    """
    means, pull = anchors.means, anchors.weights * (len(sample) / len(shares))
    for _ in range(ROUNDS):
        plane = scores(means)
        offsets = balanced_offsets(sample, plane, shares, firmness=firmness)
        masses, sums = total(class_sums(rows, plane, offsets) for rows in tiles(sample, plane))
        means = (sums + pull[:, None] * anchors.means) / (masses + pull)[:, None]
    return means


def balanced_offsets(sample: Tensor, plane: Plane, shares: Tensor, *, firmness: float) -> Tensor:
    """Return the offsets of `balance` for the logits of a sample [M, D], or of as many of its rows as are kept."""
    kept = sample[: max(1, BALANCE_SCORES // len(plane.bias))]
    return balance([scores_of(rows, plane) for rows in tiles(kept, plane)], shares, firmness=firmness)


def expected_shares(sample: Tensor, plane: Plane) -> Tensor:
    """Return [K] float64, > 0 with sum 1: the mass of each class in a sample [M, D], without the background."""
    (masses,) = total((torch.softmax(scores_of(rows, plane), dim=1).sum(dim=0),) for rows in tiles(sample, plane))
    masses = masses[:-1].clamp(min=LEAST_MASS * len(sample))
    return masses / masses.sum()


def tiles(sample: Tensor, plane: Plane) -> Sequence[Tensor]:
    """Return the rows of a sample [M, D] in blocks whose size depends on the number of classes alone."""
    return torch.split(sample, max(1, TILE_SCORES // len(plane.bias)))


def scores_of(rows: Tensor, plane: Plane) -> Tensor:
    """Return [m, K + 1] float64, the logits of rows [m, D]."""
    return torch.addmm(plane.bias, rows.double(), plane.weight.T)


def balance(scores: Sequence[Tensor], shares: Tensor, *, firmness: float) -> Tensor:
    """Return offsets of the logits that bring the mass of the classes towards their shares.

    Sinkhorn's iteration with columns that are only drawn to their marginal, by a Kullback-Leibler term of weight rho
    (Chizat et al. 2018, arXiv 1607.05816): f <- rho / (1 + rho) (f + log(r m / mass)). As rho grows, masses become the
    shares. m is the mass of all classes, and the background takes what it gets: nobody knows its share.

    Args:
        scores: tiles [m, K + 1] of logits, those of the background last.
        shares: [K] float64, sum 1.
        firmness: rho, > 0.

    Returns:
        [K + 1] float64; 0 for the background.
    """
    offsets = torch.zeros(len(shares) + 1, dtype=torch.float64)
    least = LEAST_MASS * sum(len(tile) for tile in scores)
    damping = firmness / (1.0 + firmness)
    for _ in range(BALANCE_ROUNDS):
        (masses,) = total((torch.softmax(tile + offsets, dim=1).sum(dim=0),) for tile in scores)
        masses = masses[:-1].clamp(min=least)
        wanted = (shares * masses.sum()).clamp(min=least)
        offsets[:-1] = damping * (offsets[:-1] + wanted.log() - masses.log())
    return offsets


def class_sums(rows: Tensor, plane: Plane, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a tile adds to the masses [K] and to the sums of images [K, D] of the classes, float64."""
    shared = torch.softmax(scores_of(rows, plane) + offsets, dim=1)[:, :-1]
    return shared.sum(dim=0), shared.T @ rows.double()


def total(tiles: Iterable[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Return the sums over tiles, added in the order of the tiles."""
    return reduce(lambda left, right: tuple(map(torch.add, left, right)), tiles)
