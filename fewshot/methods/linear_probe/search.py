"""Choose C by the search of CoOp, a coarse grid and then bisection, on held-out shots instead of a validation split.

CoOp tries seven values a hundred apart and halves, eight times, the two decades around the best one. The values belong
to raw features with rows about 10 long; ours are for unit rows, so that C does not depend on a backbone's scale: theirs
times 10^2. Of the eight halvings three are left, as held-out shots cannot distinguish C from 1.8 C; and the best of all
values tried is taken rather than the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache

from torch import Tensor

from fewshot.model_selection.cross_validation import Split, best_point

STRENGTHS = tuple(10.0**power for power in range(-4, 9, 2))
HALVINGS = 3


def best_strength(splits: Sequence[Split], learner: Callable[[Split], Callable[[float], Tensor]]) -> float:
    """Return C by grid and bisection; of equals the smallest, which is the smoothest.

    Args:
        splits: what to measure on.
        learner: makes of a split a function of C that learns from it and returns the logits [Q, K] of its queries. It
            is called once for each C.
    """
    logits, tried = {id(split): cache(learner(split)) for split in splits}, set(STRENGTHS)

    def sweep(split: Split, points: Collection[float]) -> Iterator[tuple[float, Tensor]]:
        for point in points:
            yield point, logits[id(split)](point)

    peak = best_point(STRENGTHS, splits, sweep)
    low, high = peak / 10.0, peak * 10.0
    for _ in range(HALVINGS):
        tried |= {low, high}
        middle = (low * high) ** 0.5
        low, high = (low, middle) if best_point([low, high], splits, sweep) == low else (middle, high)
    return best_point(sorted(tried), splits, sweep)
