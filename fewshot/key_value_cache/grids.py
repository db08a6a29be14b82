"""How sharp and how loud a cache of shots should be: grids to choose from, and defaults where nothing can be measured.

The published grids are absolute numbers for CLIP features and a logit scale of 100. Here beta is measured in the mean
distance between shots and alpha in the logit scale, so that the same grid fits every backbone; for CLIP it covers the
published ranges (beta 0.1 ... 50, alpha 0.1 ... 50) and goes on to where the cache silences the text altogether.
"""

from __future__ import annotations

import math

from torch import Tensor

from fewshot.problem import Problem
from fewshot.prototypes import text_skill, three_digits

BETA_UNITS = tuple(2.0**power for power in range(-1, 6))
ALPHA_UNITS = (0.0, *(2.0**power / 400.0 for power in range(13)))
TYPICAL_DISTANCE = 0.4


def mean_distance(keys: Tensor) -> float:
    """Mean of 1 - cosine over pairs of distinct keys [M, D]; `TYPICAL_DISTANCE` for fewer than two keys."""
    M = len(keys)
    if M < 2:
        return TYPICAL_DISTANCE
    cosines = float(keys.double().sum(dim=0).square().sum()) - M
    return max(1e-3, 1.0 - cosines / (M * (M - 1)))


def beta_grid(keys: Tensor) -> list[float]:
    """Sharpnesses to try, ascending: geometric, 0.5 ... 32 over the mean distance between keys."""
    return [three_digits(unit / mean_distance(keys)) for unit in BETA_UNITS]


def alpha_grid(problem: Problem) -> list[float]:
    """Weights to try, ascending: 0 (text only), then geometric; for a logit scale of 100, 0.25 ... 1024."""
    return [three_digits(unit * problem.logit_scale) for unit in ALPHA_UNITS]


def default_beta(keys: Tensor) -> float:
    """Sharpness where nothing can be held out: a key at the mean distance counts exp(-2.2), a ninth of an equal one.

    For CLIP's ImageNet features (mean distance 0.4) that is Tip-Adapter's published default, 5.5.
    """
    return three_digits(2.2 / mean_distance(keys))


def default_alpha(problem: Problem) -> float:
    """Weight of the votes where nothing can be held out: the less the text knows about the shots, the louder.

    The text has not learned from the shots, so its accuracy on them is an honest estimate even with one shot a class.
    With r that accuracy above chance, scaled to [0, 1], and with the spread of the text logits over the classes as the
    unit, alpha = 300 exp(-14 r^1.5) spread / (mean shots of a class). The two constants are fitted, roughly: names that
    say nothing (r = 0) give a cache that overrules the text; ImageNet's (r = 0.6) about Tip-Adapter's alpha of 1; in
    between they were read off held-out train images of TrashNet and sign digits with the embedded CLIP, where 8 to 100
    times the spread is as good at r = 0.35, and everything below 100 times is worse at r = 0.

    Returns:
        alpha >= 0; 0 when there are no shots.
    """
    M = len(problem.support)
    if not M:
        return 0.0
    trust, spread = text_skill(problem)
    shots_a_class = M / int((problem.counts > 0).sum())
    return three_digits(300.0 * math.exp(-14.0 * trust**1.5) * spread / shots_a_class)
