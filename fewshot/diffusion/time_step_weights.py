"""Weights of time-steps, from the attributes of an image that noise hides at each of them.

This is TiF's weighting (arXiv 2403.02649) as its code computes it. Two images that differ by an attribute of size d,
the distance of their latents, become two Gaussians N(sqrt(a_t) x, (1 - a_t) I) at time-step t, where a_t is the
cumulative product of 1 - beta. They overlap by

    OVL_t(d) = erfc(d * sqrt(a_t) / (2 sqrt(2) sqrt(1 - a_t))),

half of which is the smallest probability of confusing them. The weight of a time-step is the nuanced share of the
attributes lost there: OVL of the nuanced size over the sum of OVL of that size and of all larger ones.

Two of the code's choices matter and are the defaults here:

* The weights use linear betas from 1e-4 to 0.02, whatever schedule the model has. It is a monotone change of the time
  axis, which moves the weights to smaller t than the model's own schedule would (Stable Diffusion keeps a_500 = 0.28,
  the linear one 0.08), and the published results stand on it. `attribute_weights` takes any schedule.
* OVL is 1 - erf in float64, which is exactly 0 from about 5.9 on, so the smallest time-steps weigh exactly nothing and
  need no forward. With `exact`, the complement is computed without cancellation; the floor of 1e-18 in the denominator
  then ends the weights, some tens of steps earlier (d = 10: 0.5 from t = 162 on instead of 170), and from 15 steps past
  the published cut-off the two differ by less than 0.005.

The larger sizes are 500 rungs one unit apart. Latents of few numbers have distances of a few units, for which such a
ladder is coarse; `spacing` makes it finer (then take `exact`: where OVL is a few units of 2^-53, cancellation makes
the weights ripple, the more the finer the ladder). Multiplying latents, d and spacing by a factor only moves the
weights in t.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.spatial.distance import pdist
from scipy.special import erfcinv
from torch import Tensor

from fewshot.backbones.diffusion import noise_schedule as schedule
from fewshot.errors import DataError

PUBLISHED_SCHEDULE = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
RUNGS = 500
FLOOR = 1e-18
QUANTILE = 0.001
SAME_CLASS = 100.0
"""Value that replaces the squared distance of two latents of one class, and of a latent to itself."""


def linear_alphas_cumprod(T: int = 1000) -> Tensor:
    """Return the noise schedule of the published weights, [T] float64: linear betas from 1e-4 to 0.02."""
    return schedule.alphas_cumprod({**PUBLISHED_SCHEDULE, "num_train_timesteps": T})


def overlap(alphas_cumprod: Tensor, sizes: Tensor, *, exact: bool = False) -> Tensor:
    """Return OVL, the overlap of two images, at every time-step.

    Args:
        alphas_cumprod: [T] float64 in (0, 1), falling.
        sizes: [S] float64, >= 0: distances of latents.
        exact: compute erfc instead of 1 - erf.

    Returns:
        [S, T] float64 in [0, 1], rising with t and falling with the size.
    """
    argument = sizes.double()[:, None] * torch.sqrt(alphas_cumprod / (8.0 * (1.0 - alphas_cumprod)))
    return torch.erfc(argument) if exact else 1.0 - torch.erf(argument)


def loss_time(alphas_cumprod: Tensor, size: float, *, degree: float) -> int:
    """Return the first time-step at which an attribute is lost: OVL / 2 >= degree.

    Computed from the equal condition on the signal-to-noise ratio, a_t / (1 - a_t) <= 8 erfcinv(2 degree)^2 / d^2.

    Args:
        alphas_cumprod: [T] float64 in (0, 1), falling.
        size: of the attribute, > 0.
        degree: probability of confusion, in (0, 0.5).

    Returns:
        In [0, T]; T when it never is.
    """
    signal_to_noise = alphas_cumprod / (1.0 - alphas_cumprod)
    return int((signal_to_noise > 8.0 * float(erfcinv(2.0 * degree)) ** 2 / size**2).sum())


def attribute_weights(alphas_cumprod: Tensor, size: float, *, spacing: float = 1.0, exact: bool = False) -> Tensor:
    """Return the weight of each time-step: w_t = OVL_t(d) / (OVL_t(d) + 1e-18 + sum of OVL_t(d + spacing (1 + j))).

    Args:
        alphas_cumprod: [T] float64 in (0, 1); published: `linear_alphas_cumprod()`.
        size: d, the nuanced size, >= 0; see `nuanced_size`.
        spacing: between the 500 larger sizes, > 0; published: 1.
        exact: compute erfc instead of 1 - erf.

    Returns:
        [T] float64 in [0, 1): 0 at small t, a jump to about 1, then falling.
    """
    rungs = size + spacing * torch.arange(RUNGS + 1, dtype=torch.float64)
    nuanced, larger = overlap(alphas_cumprod, rungs, exact=exact).tensor_split([1])
    return (nuanced / (nuanced + FLOOR + larger.sum(dim=0))).squeeze(0)


def nuanced_size(latents: Tensor, labels: Tensor) -> float:
    """Measure d, the distance between the most similar parts of images of different classes.

    At each position, of the squared distances between all ordered pairs of the M channel vectors, where pairs of one
    class (and an image with itself) count as 100, the 0.001 quantile with linear interpolation; d is the root of the
    sum over positions. Any size of latents; float64 (the published code: 64 by 64 and float16). One position is held
    at a time, M^2 / 2 distances.

    Args:
        latents: [M, C, h, w] float, the mean latents of the few-shot images.
        labels: [M] int64.

    Raises:
        DataError: there are not two classes.
    """
    if (labels == labels[0]).all():
        raise DataError("got images of one class, expected two classes or more to compare")
    M = len(latents)
    vectors = latents.detach().cpu().double().flatten(2).permute(2, 0, 1).numpy()
    first, second = np.triu_indices(M, k=1)  # The order of `pdist`.
    others = (labels.cpu().numpy()[first] != labels.cpu().numpy()[second]).nonzero()[0]
    return math.sqrt(sum(_low_quantile(pdist(position, "sqeuclidean")[others], M) for position in vectors))


def _low_quantile(distances: np.ndarray, M: int) -> float:
    """Return the quantile of M^2 entries: each of `distances` twice, all others `SAME_CLASS`."""
    overwritten = M * M - 2 * len(distances)
    rank = QUANTILE * (M * M - 1)
    low = math.floor(rank)
    ranks = (low, min(low + 1, M * M - 1))
    # Merging a sorted list with copies of a constant: the k-th is max(list[k - copies], min(list[k], constant)).
    needed = sorted({(k - lag) // 2 for k in ranks for lag in (0, overwritten) if 0 <= k - lag < 2 * len(distances)})
    part = np.partition(distances, needed)

    def entry(k: int) -> float:
        lower = part[(k - overwritten) // 2] if k >= overwritten else -math.inf
        upper = part[k // 2] if k < 2 * len(distances) else math.inf
        return float(max(lower, min(upper, SAME_CLASS)))

    return entry(ranks[0]) + (rank - low) * (entry(ranks[1]) - entry(ranks[0]))
