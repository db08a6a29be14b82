"""Examples that look mislabelled: they are more like another class than like the other examples of their own.

Each example is compared with the class means, that of its own class without it (leave one out). On fine-grained classes
a good example can be among these too, so they are shown to be looked at, and nothing follows from them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ray_jobs.report.example_rows import ExampleRows

SHOWN = 12


@dataclass(frozen=True, slots=True)
class OddExample:
    """An example that is more like another class.

    Attributes:
        image: its reference.
        label: its class.
        nearest: the other class.
        lead: cosine similarity to the mean of `nearest`, less that to its own class without it, in (0, 2].
    """

    image: str
    label: str
    nearest: str
    lead: float


def find_odd_examples(rows: ExampleRows) -> list[OddExample]:
    """Return the examples with the largest leads, at most `SHOWN`; the only ones of their classes are passed over."""
    if not rows.images:
        return []
    leads, nearest = leave_one_out_leads(rows.features, rows.labels, classes=len(rows.classes))
    order = sorted(np.flatnonzero(leads > 0).tolist(), key=lambda row: (-leads[row], rows.images[row]))[:SHOWN]
    return [
        OddExample(rows.images[row], rows.label(row), rows.classes[nearest[row]], float(leads[row])) for row in order
    ]


def leave_one_out_leads(features: np.ndarray, labels: np.ndarray, *, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how much more each example is like another class than like its own.

    Args:
        features: [M, D] float64, not zero.
        labels: [M] integers in [0, classes).
        classes: K.

    Returns:
        [M] float64, cosine similarity to the most similar mean of another class, less that to the mean of the others
        of its own class; -inf for the only example of a class, or where no other class has one. And [M], that class.
    """
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    sums, counts = np.zeros((classes, unit.shape[1])), np.bincount(labels, minlength=classes)
    np.add.at(sums, labels, unit)
    norms = np.linalg.norm(sums, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        similarity = np.where(counts > 0, unit @ sums.T / norms, -np.inf)
        others = sums[labels] - unit
        own = (unit * others).sum(axis=1) / np.linalg.norm(others, axis=1)
    similarity[np.arange(len(unit)), labels] = -np.inf
    nearest = similarity.argmax(axis=1)
    leads = np.where(counts[labels] > 1, similarity.max(axis=1) - own, -np.inf)
    return np.where(np.isnan(leads), -np.inf, leads), nearest
