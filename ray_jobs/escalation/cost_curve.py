"""Accuracy against cost: what smaller cascades would have achieved, all from one run.

The escalated images have an order, the least certain first, and each was decided independently of the others. So a
cascade with a smaller `max_fraction` ends with the first of these predictions and the cheap predictions of the rest.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cluster import Store
from fewshot.data.example import plain_path
from ray_jobs.output.feature_parts import get_table
from ray_jobs.output.layout import GAPS
from ray_jobs.results.escalation_summary import CostPoint, MeasuredEscalation

MAX_POINTS = 50
COLUMNS = ["image", "cheap_label", "label", "forwards"]


def measure_escalation(
    store: Store, run: str, ground_truth: Mapping[str, str], *, correct: int, labelled: int, images: int
) -> MeasuredEscalation:
    """Measure the escalated predictions of a run against given labels.

    Args:
        store: the output.
        run: folder of the run.
        ground_truth: image -> its label, where known; images as `plain_path` writes them.
        correct: predictions of the run that agree with it.
        labelled: predictions of images with a known label, at least 1.
        images: of the archive.

    Returns:
        With a curve of at most `MAX_POINTS` cascades; the fraction of each is the `max_fraction` that it takes.

    Raises:
        DamagedError: the file of gaps is damaged, and was removed.
    """
    rows = get_table(store, f"{run}/{GAPS}", columns=COLUMNS).to_pydict()
    images_escalated = [plain_path(image) for image in rows["image"]]
    known = np.array([image in ground_truth for image in images_escalated], dtype=bool)
    before, after = (
        np.array(
            [ground_truth.get(image) == label for image, label in zip(images_escalated, rows[name], strict=True)],
            dtype=bool,
        )
        for name in ("cheap_label", "label")
    )
    corrected, spoiled = known & after & ~before, known & before & ~after
    gained = _sums(corrected.astype(np.int64) - spoiled)
    accuracy = (correct - gained[-1] + gained) / labelled
    spent = _sums(np.array(rows["forwards"], dtype=np.int64)) / images
    counts = np.unique(np.linspace(0, len(known), MAX_POINTS).round().astype(np.int64)).tolist()
    return MeasuredEscalation(
        labelled_images=int(known.sum()),
        corrected=int(corrected.sum()),
        spoiled=int(spoiled.sum()),
        accuracy_before=float(accuracy[0]),
        accuracy=float(accuracy[-1]),
        curve=tuple(
            CostPoint(images=k, fraction=k / images, forwards_an_image=float(spent[k]), accuracy=float(accuracy[k]))
            for k in counts
        ),
    )


def _sums(values: np.ndarray) -> np.ndarray:
    """Return [n + 1], the sums of the first 0, 1, ..., n values."""
    return np.concatenate([[0], np.cumsum(values)])
