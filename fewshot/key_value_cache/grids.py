"""Grids of alpha and beta, the hyperparameters of a cache of shots, and defaults for problems without held-out images.

The published grids are absolute numbers for CLIP features and a logit scale of 100. Here the unit of beta is the
inverse of the mean distance between shots, and that of alpha the logit scale, so that the same grid fits every
backbone. For CLIP it covers the published ranges (beta 0.1 ... 50, alpha 0.1 ... 50) and goes on to where the cache
alone decides.
"""

from __future__ import annotations

import math

from torch import Tensor

from fewshot.problem import Problem
from fewshot.prototypes import text_skill, three_digits

BETA_UNITS = tuple(2.0**power for power in range(-1, 6))
"""Times the inverse of the mean distance between keys."""
ALPHA_UNITS = (0.0, *(2.0**power / 400.0 for power in range(13)))
"""Times the logit scale."""
TYPICAL_DISTANCE = 0.4
"""Mean distance between CLIP's ImageNet features."""


def mean_distance(keys: Tensor) -> float:
    """Return the mean of 1 - cosine over pairs of distinct keys [M, D]; `TYPICAL_DISTANCE` for fewer than two keys."""
    M = len(keys)
    if M < 2:
        return TYPICAL_DISTANCE
    cosines = float(keys.double().sum(dim=0).square().sum()) - M
    return max(1e-3, 1.0 - cosines / (M * (M - 1)))


def beta_grid(keys: Tensor) -> list[float]:
    """Return the betas to try, ascending: geometric, 0.5 ... 32 over the mean distance between keys [M, D]."""
    return [three_digits(unit / mean_distance(keys)) for unit in BETA_UNITS]


def alpha_grid(problem: Problem) -> list[float]:
    """Return the alphas to try, ascending: 0 (text only), then geometric; 0.25 ... 1024 for a logit scale of 100."""
    return [three_digits(unit * problem.logit_scale) for unit in ALPHA_UNITS]


def default_beta(keys: Tensor) -> float:
    """Return the default beta: a key at the mean distance counts exp(-2.2), a ninth of a key equal to the query.

    For CLIP's ImageNet features (mean distance 0.4) that is Tip-Adapter's published default, 5.5.
    """
    return three_digits(2.2 / mean_distance(keys))


def default_alpha(problem: Problem) -> float:
    """Return the default alpha: the worse zero-shot classification of the shots, the larger the weight of the votes.

    The text embeddings are not trained on the shots, so their accuracy on them is an unbiased estimate even with one
    shot of each class. With r that accuracy above chance, scaled to [0, 1], and the spread of the text logits over the
    classes as the unit, alpha = 300 exp(-14 r^1.5) spread / (mean shots of a class). The two constants are rough fits:
    meaningless names (r = 0) give a cache that overrules the text, ImageNet's (r = 0.6) about Tip-Adapter's alpha of 1.
    Between these they were read off held-out train images of TrashNet and sign digits with the embedded CLIP, where 8
    to 100 times the spread is equally good at r = 0.35, and everything below 100 times is worse at r = 0.

    Returns:
        alpha >= 0; 0 without shots.
    """
    M = len(problem.support)
    if not M:
        return 0.0
    skill, spread = text_skill(problem)
    mean_shots = M / int((problem.counts > 0).sum())
    return three_digits(300.0 * math.exp(-14.0 * skill**1.5) * spread / mean_shots)
