"""Temperature scaling (Guo et al. 2017, arXiv 1706.04599): one number that makes probabilities of logits."""

from __future__ import annotations

import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

TEMPERATURE_RANGE = (1e-2, 1e4)


def fit_temperature(logits: Tensor, labels: Tensor, present: Tensor | None = None) -> float:
    """The temperature that minimises the negative log-likelihood; a convex problem in 1 / T, solved over log T.

    As in Platt scaling, the targets are not quite certain: with n images, a share 1 / (n + 2) of each goes to all
    classes alike. Without it, held-out images that happen to be all right would ask for T = 0.

    Args:
        logits: [n, K] float32.
        labels: [n] int64 in [0, K), present ones.
        present: [n, K] bool, which classes an image may be of; None is all of them.

    Returns:
        T in [0.01, 10000]; 1 when n = 0.
    """
    n = len(labels)
    if not n:
        return 1.0
    share = 1.0 / (n + 2.0)
    own = logits.gather(1, labels[:, None]).squeeze(1)
    possible = logits if present is None else logits.masked_fill(~present, -torch.inf)
    mean = logits.mean(dim=1) if present is None else (logits * present).sum(dim=1) / present.sum(dim=1)
    target = float(((1.0 - share) * own + share * mean).double().mean())

    def loss(log_temperature: float) -> float:
        temperature = math.exp(log_temperature)
        return float(torch.logsumexp(possible / temperature, dim=1).double().mean()) - target / temperature

    low, high = TEMPERATURE_RANGE
    found = minimize_scalar(loss, bounds=(math.log(low), math.log(high)), method="bounded", options={"xatol": 1e-4})
    return math.exp(found.x)
