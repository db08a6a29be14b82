"""Synthetic tables of errors, shaped after those of a small diffusion model (40 images, 16 prompts, 100 time-steps).

Of the model were taken, by tenth of the time axis: the level that all classes share, the spread of the difference of
two classes, and its mean. Classes are more or less different from the best one; how much, and how strong the evidence
is, was set so that the t statistics over the whole grid come out as measured (median about 9, of the closest class
about 4; in 15 % of images a third of that).
"""

import numpy as np
import torch

LEVEL = (0.333, 0.207, 0.160, 0.123, 0.091, 0.067, 0.046, 0.0285, 0.017, 0.010)
NOISE = (1.0, 1.06, 1.1, 1.03, 1.02, 1.03, 0.84, 0.54, 0.26, 0.09)
GAP = (1.44, 1.41, 1.26, 1.19, 1.04, 1.04, 0.85, 0.41, 0.15, 0.05)


def error_tables(images, classes, steps, *, seed=0, strength=1.5, hard=0.15, wobble=0.6):
    """[N, K, n] float32, and the class that explains each image best in expectation."""
    rng = np.random.default_rng(seed)
    N, K, n = images, classes, steps
    best, rows = rng.integers(0, K, N), np.arange(N)
    common = _along(LEVEL, n) * np.exp(0.3 * rng.standard_normal((N, 1)) + 0.15 * rng.standard_t(4, (N, n)))
    spread = 0.002 * np.exp(0.3 * rng.standard_normal((N, 1)))
    different = np.exp(0.4 * rng.standard_normal((N, K))) * spread
    evidence = strength * rng.gamma(6.0, 1 / 6, (N, K)) * np.where(rng.random((N, 1)) < hard, 0.3, 1.0)
    different[rows, best] = 0.0
    noise = (_heavy(rng, (N, K, n)) + _heavy(rng, (N, 1, n))) / 2**0.5 * _along(NOISE, n)
    drift = wobble * _smooth(rng, (N, K), n) * np.sqrt(evidence)[..., None]
    mean = 0.73 * _along(GAP, n) * (evidence[..., None] + drift)
    return torch.from_numpy(common[:, None] + different[..., None] * (noise + mean)).float(), torch.from_numpy(best)


def _along(profile, n):
    return np.interp((np.arange(n) + 0.5) / n, (np.arange(10) + 0.5) / 10, profile)


def _heavy(rng, shape):
    """Student's t with 5 degrees of freedom, of variance 1."""
    return rng.standard_t(5, shape) / (5 / 3) ** 0.5


def _smooth(rng, shape, n):
    """[*shape, n]: random curves of variance about 1 that vary over a sixth of the axis."""
    phase = 2 * np.pi * np.arange(1, 7)[:, None] * (np.arange(n) + 0.5) / n
    damping = np.exp(-2 * (0.15 * np.arange(1, 7)) ** 2)
    sine, cosine = rng.standard_normal((2, *shape, 6)) * damping / np.sqrt((damping**2).sum())
    return sine @ np.sin(phase) + cosine @ np.cos(phase)
