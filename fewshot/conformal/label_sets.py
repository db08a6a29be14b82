"""From the ranks of candidate labels to sets of labels."""

from __future__ import annotations

import math

from torch import Tensor

from fewshot.errors import DataError


def label_sets(ranks: Tensor, *, examples: int, max_error: float) -> Tensor:
    """Return the labels that are not rejected.

    Sets of a lower `max_error` contain those of a higher one. If the images and the examples are exchangeable, the true
    label is in its set with a probability of at least 1 - max_error, and of at most 1 / (examples + 1) more if no two
    scores are equal. This holds for all images together, not for those of each class.

    Args:
        ranks: [B, K] int64 in [1, examples + 1], see `ConformalExamples.ranks`.
        examples: N, the number of labelled examples behind the ranks.
        max_error: probability of a set without the true label, in (0, 1).

    Returns:
        [B, K] bool.

    Raises:
        DataError: `max_error` is out of range.
    """
    return ranks > ranks_left_out(examples, max_error=max_error)


def ranks_left_out(examples: int, *, max_error: float) -> int:
    """Return how many of the N + 1 ranks are rejected; with 0, every label is in every set.

    Args:
        examples: N.
        max_error: in (0, 1).

    Raises:
        DataError: `max_error` is out of range.
    """
    if not 0.0 < max_error < 1.0:
        raise DataError(f"max_error must lie between 0 and 1, got {max_error:g}")
    return math.floor(round(max_error * (examples + 1), 9))  # 0.7 * 10 is a little more than 7
