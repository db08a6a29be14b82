"""P-values by relabelling that stop as soon as they are clearly large.

Most nights nothing changed, and a handful of relabellings shows it. So relabellings are drawn until `ENOUGH` of them
reach the statistic, or there are as many as may be drawn (Besag & Clifford, Sequential Monte Carlo p-values, 1991). If
the l-th is the `ENOUGH`-th that reaches it, the p-value is `ENOUGH` / l; otherwise, g of n reached it, it is
(1 + g) / (1 + n). Both are exact at any level: the first is at most h / l only if the statistic is among the h largest
of itself and l - 1 relabelled ones, the second only if it is among the g + 1 largest of n + 1, which have probabilities
of h / l and (g + 1) / (n + 1) at most if labels are exchangeable.

Nothing about a level depends on when it stops: a night spends its level before anything is drawn.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

ENOUGH = 10
"""Relabellings that reach the statistic before no more are drawn: the p-value is then known to about a third."""
FIRST, LARGEST = 32, 256
"""Relabellings of the first block; each block doubles up to the largest."""


def relabelled_p_values(reach: Callable[[int], NDArray[np.bool_]], most: int) -> list[float]:
    """Return the p-values of S statistics of the same relabellings.

    Args:
        reach: returns [S, n], which of the next n relabellings reach the value of the true labels, for each statistic.
        most: relabellings, at most, >= 1.
    """
    drawn: list[NDArray[np.bool_]] = []
    count, block = 0, FIRST
    while count < most:
        drawn.append(reach(min(block, most - count)))
        count, block = count + drawn[-1].shape[1], min(2 * block, LARGEST)
        if min(np.sum([each.sum(axis=1) for each in drawn], axis=0)) >= ENOUGH:
            break
    return [_p_value(reached) for reached in np.concatenate(drawn, axis=1)]


def _p_value(reached: NDArray[np.bool_]) -> float:
    which = np.flatnonzero(reached)
    if len(which) >= ENOUGH:
        return ENOUGH / (1.0 + float(which[ENOUGH - 1]))
    return (1.0 + len(which)) / (1.0 + len(reached))
