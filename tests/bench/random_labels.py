"""What random labels of an archive are worth as half of a budget, the other half of which the user chooses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.bench.labelled_sets import PhotoSet, Progress, find_sets
from tests.bench.result import Gate, Result
from tests.bench.suggestion import Archive, accuracy, standard_error

BUDGETS = {"trashnet": 16, "signdigits": 8}
"""Labels of each class that the user chooses, by set: a budget that suits the size of the set."""
USUAL_BUDGET = 4
"""Of the sets that are not there."""
CHOSEN = {"signdigits": 2}
"""Labels of each class that the user chooses if the others are random; half of them for the sets that are not here."""
ARCHIVES = ("all classes", "a third of the classes", "long tail")
IMBALANCE = 50
"""Of a long tail: how many times as many images the most frequent class has as the rarest."""
TOO_SIMILAR = 0.95
"""Cosine to a labelled image of the archive above which an image is not measured on."""


def run(*, images: int, repeat: int, sets: Sequence[str] | None = None) -> Result:
    """Label and classify each archive with both kinds of labels.

    Args:
        images: of an archive, at most.
        repeat: draws of the labels and of the archive.
        sets: names of sets; None takes all in which each class has as many images to choose from.
    """
    found = [photos for photos in find_sets(sets) if _has_enough(photos)]
    progress = Progress(len(found) * len(ARCHIVES))
    rows = []
    for photos in found:
        for kind in ARCHIVES:
            rows.append(_row(photos, kind, [_pair(photos, kind, images, seed) for seed in range(repeat)]))
            progress.step(f"{photos.name}, {kind}")
    title = f"accuracy in % of GDA on the rest of the archive, the same number of labels; mean of {repeat} paired draws"
    lowest = min(float(row["difference"]) for row in rows if row["archive"] != ARCHIVES[0])
    return Result("random_labels", title, rows, [Gate.at_least("points gained where classes differ", lowest, 0.0)])


def _has_enough(photos: PhotoSet) -> bool:
    return bool(np.bincount(photos.labels["train"], minlength=len(photos.space)).min() >= _budget(photos))


def _budget(photos: PhotoSet) -> int:
    return BUDGETS.get(photos.name, USUAL_BUDGET)


def _row(photos: PhotoSet, kind: str, pairs: Sequence[tuple[float, float]]) -> dict[str, str | float]:
    chosen, mixed = np.array(pairs).T
    difference = mixed - chosen
    return {
        "set": photos.name,
        "labels": str(_budget(photos) * len(photos.space)),
        "archive": kind,
        "all chosen": float(chosen.mean()),
        "half random": float(mixed.mean()),
        "difference": float(difference.mean()),
        "± (standard error)": standard_error(difference),
    }


def _pair(photos: PhotoSet, kind: str, images: int, seed: int) -> tuple[float, float]:
    """Return the accuracies of both kinds of labels, measured on the same images."""
    rng = np.random.default_rng(seed)
    each, K = _budget(photos), len(photos.space)
    own = CHOSEN.get(photos.name, each // 2)
    features, truth = _archive(photos, kind, images, rng)
    drawn = rng.permutation(len(truth))[: K * (each - own)]
    rest = (features @ features[drawn].T).max(axis=1) <= TOO_SIMILAR
    order = rng.permutation(len(photos.labels["train"]))
    full, part = (_of_each_class(photos, order, shots) for shots in (each, own))
    mixed = (np.concatenate([part[0], features[drawn]]), np.concatenate([part[1], truth[drawn]]))
    measured = features[rest], truth[rest]
    first, second = (100.0 * accuracy(photos.fit(*labelled), measured) for labelled in (full, mixed))
    return first, second


def _archive(photos: PhotoSet, kind: str, images: int, rng: np.random.Generator) -> Archive:
    """Return an archive of the images that the user does not choose from."""
    features, truth, K = photos.features["test"], photos.labels["test"], len(photos.space)
    classes = rng.permutation(K)
    kept = np.ones(len(truth), bool)
    if kind == ARCHIVES[1]:
        kept = np.isin(truth, classes[: max(2, round(K / 3))])
    elif kind == ARCHIVES[2]:
        kept = _long_tail(truth, classes, rng)
    rows = rng.permutation(np.flatnonzero(kept))[:images]
    return features[rows], truth[rows]


def _long_tail(truth: NDArray[np.int64], classes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Keep of the first class all images, of the others fewer and fewer, geometrically."""
    kept = np.zeros(len(truth), bool)
    for rank, label in enumerate(classes):
        rows = rng.permutation(np.flatnonzero(truth == label))
        share = IMBALANCE ** (-rank / (len(classes) - 1))
        kept[rows[: max(1, round(share * len(rows)))]] = True
    return kept


def _of_each_class(photos: PhotoSet, order: NDArray[np.int64], shots: int) -> Archive:
    labels = photos.labels["train"]
    rows = np.concatenate([[row for row in order if labels[row] == k][:shots] for k in range(len(photos.space))])
    rows = rows.astype(np.int64)
    return photos.features["train"][rows], labels[rows]
