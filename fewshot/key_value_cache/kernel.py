"""The shots as a key-value cache, and the votes of its keys: shared by every method of the Tip-Adapter family.

Keys are grouped by class, so the values are not a one-hot matrix but K counts, and a vote is a sum over a segment. It
is computed by `torch.segment_reduce`, which unlike `index_add_` has one order of summation, or, where every class has
the same number of keys, by a sum over an axis, which is several times faster. The B x M affinities are computed in
blocks of whole classes that fit into the cache of a core, so that the passes over them cost little beside the matrix
product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fewshot.optimization.content_order import by_label_and_content
from fewshot.problem import Problem

MEMORY_BYTES = 4 * 2**20
"""Memory limit of the affinities of one block of classes: 1,024 keys for a tile of 1,024 images."""


@dataclass(frozen=True, slots=True)
class Cache:
    """The shots of a problem, grouped by class.

    Attributes:
        keys: [M, D] float32, unit rows, in the order of classes and, within a class, of content.
        counts: [K] int64, number of keys of each class; 0 for a class without shots.
    """

    keys: Tensor
    counts: Tensor

    @classmethod
    def from_problem(cls, problem: Problem) -> Cache:
        """Build the cache of a problem's shots; the same, bit for bit, for any order of the shots."""
        shots = problem.support[by_label_and_content(problem.support)]
        return cls(shots.cache_keys, problem.counts)

    @property
    def labels(self) -> Tensor:
        """[M] int64: the class of each key."""
        return torch.repeat_interleave(torch.arange(len(self.counts), device=self.counts.device), self.counts)


def kernel(cosines: Tensor, *, beta: float) -> Tensor:
    """Return exp(-beta * (1 - cosine)), elementwise, in new memory.

    Args:
        cosines: of any shape, float32.
        beta: >= 0; the larger, the less distant keys count. 0 counts every key the same.
    """
    return (cosines - 1.0).mul_(beta).exp_()


def segment_sum(values: Tensor, counts: Tensor) -> Tensor:
    """Sum the rows of each class.

    Args:
        values: [M, B] float32, rows grouped by class.
        counts: [K] int64 with sum M.

    Returns:
        [K, B] float32; 0 for a class without rows.
    """
    each = len(values) // max(1, len(counts))
    if len(values) and bool((counts == each).all()):
        return values.view(len(counts), each, -1).sum(dim=1)
    return torch.segment_reduce(values, "sum", lengths=counts, axis=0, initial=0.0)


def class_votes(
    features: Tensor,
    keys: Tensor,
    counts: Tensor,
    *,
    beta: float,
    weights: Tensor | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> Tensor:
    """Return the votes of the cache: for each class the sum of `weight * exp(-beta * (1 - cosine))` over its keys.

    Args:
        features: [B, D] float32, unit rows.
        keys: [M, D] float32, unit rows, grouped by class.
        counts: [K] int64 with sum M.
        beta: exponent of the kernel, >= 0; 0 counts every key the same.
        weights: [M] float32, the weight of each key; None weighs all by 1.
        memory_bytes: memory limit of the affinities of one block; a block has at least one class.

    Returns:
        [B, K] float32.
    """
    votes = features.new_zeros(len(counts), len(features))
    keys_per_block = memory_bytes // (4 * max(1, len(features)))
    for classes, rows in class_blocks(counts.tolist(), keys_per_block=keys_per_block):
        affinity = (keys[rows] @ features.T).sub_(1.0).mul_(beta).exp_()
        if weights is not None:
            affinity.mul_(weights[rows, None])
        votes[classes] = segment_sum(affinity, counts[classes])
    return votes.T


def class_blocks(counts: list[int], *, keys_per_block: int) -> Iterator[tuple[slice, slice]]:
    """Cut the cache into blocks of whole classes.

    Yields:
        The classes and the keys of a block: at most `keys_per_block` keys, except for one class that alone has more.
    """
    first_class = first_key = keys = 0
    for label, count in enumerate(counts):
        if keys + count > keys_per_block and label > first_class:
            yield slice(first_class, label), slice(first_key, first_key + keys)
            first_class, first_key, keys = label, first_key + keys, 0
        keys += count
    yield slice(first_class, len(counts)), slice(first_key, first_key + keys)
