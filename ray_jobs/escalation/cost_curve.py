"""What smaller cascades would have come to: accuracy against cost, all from one run.

The images that were asked about have an order, the least certain first, and none was decided with an eye to another. So
a cascade with a smaller `max_fraction` ends with the first of these verdicts and the first opinions of all others.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cluster import Store
from ray_jobs.escalation.decided_images import GAPS
from ray_jobs.output.feature_parts import get_table
from ray_jobs.results.escalation_summary import CostPoint, MeasuredEscalation

POINTS = 50
COLUMNS = ["image", "first_label", "label", "forwards"]


def measure_cascades(
    store: Store, run: str, truth: Mapping[str, str], *, right: int, labelled: int, images: int
) -> MeasuredEscalation:
    """What the verdicts of a run were worth, where the truth is known.

    Args:
        store: the output.
        run: folder of the run.
        truth: image -> the label of those whose truth is known.
        right: predictions of the run that are.
        labelled: predictions whose truth is known, at least 1.
        images: of the archive.

    Returns:
        with a curve of at most `POINTS` cascades; the fraction of each is the `max_fraction` that it takes.

    Raises:
        DamagedError: what the model saw is damaged, and was removed.
    """
    asked = get_table(store, f"{run}/{GAPS}", columns=COLUMNS).to_pydict()
    known = np.array([image in truth for image in asked["image"]], dtype=bool)
    before, after = (
        np.array(
            [truth.get(image) == label for image, label in zip(asked["image"], asked[name], strict=True)], dtype=bool
        )
        for name in ("first_label", "label")
    )
    corrected, spoiled = known & after & ~before, known & before & ~after
    gained = _sums(corrected.astype(np.int64) - spoiled)
    accuracy = (right - gained[-1] + gained) / labelled
    spent = _sums(np.array(asked["forwards"], dtype=np.int64)) / images
    chosen = np.unique(np.linspace(0, len(known), POINTS).round().astype(np.int64)).tolist()
    return MeasuredEscalation(
        labelled_images=int(known.sum()),
        corrected=int(corrected.sum()),
        spoiled=int(spoiled.sum()),
        accuracy_before=float(accuracy[0]),
        accuracy=float(accuracy[-1]),
        curve=tuple(
            CostPoint(images=k, fraction=k / images, forwards_an_image=float(spent[k]), accuracy=float(accuracy[k]))
            for k in chosen
        ),
    )


def _sums(values: np.ndarray) -> np.ndarray:
    """[n + 1], of the first 0, 1, ..., n values."""
    return np.concatenate([[0], np.cumsum(values)])
