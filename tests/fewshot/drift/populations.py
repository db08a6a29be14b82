"""Populations of images as features: classes with normal deviations, and what may change about them."""

from __future__ import annotations

import numpy as np

from fewshot.drift import Sample
from tests.fewshot.drift.nights import Draw

DIM, CLASSES = 24, 6


def population(
    *, change: str | None = None, since: int = 1, dim: int = DIM, classes: int = CLASSES, size: float = 1.0
) -> Draw:
    """Return how images are drawn.

    Args:
        change: "shift" moves all images, "novel" makes a fifth of them another kind, "classes" draws classes with other
            shares, "withheld" withholds more labels; None changes nothing.
        since: night of the change.
        dim: D.
        classes: K.
        size: of the change.
    """
    means = np.random.default_rng(7).normal(size=(classes, dim))
    away = np.random.default_rng(8).normal(size=dim)

    def draw(rng: np.random.Generator, count: int, night: int) -> Sample:
        changed = change if night >= since and night > 0 else None
        shares = np.ones(classes) / classes
        if changed == "classes":
            shares = np.linspace(1.0, 1.0 + 2.0 * size, classes)
        labels = rng.choice(classes, size=count, p=shares / shares.sum())
        rows = means[labels] + rng.normal(size=(count, dim))
        if changed == "shift":
            rows += 0.4 * size * away
        if changed == "novel":
            rows[rng.random(count) < 0.2 * size] += 6.0 * away / np.linalg.norm(away) * np.sqrt(3.0)
        withheld = rng.random(count) < (0.1 + 0.2 * size if changed == "withheld" else 0.1)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return Sample(rows.astype(np.float32), labels.astype(np.int64), withheld)

    return draw
