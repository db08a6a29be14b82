"""Accuracy against the number of labels, where suggestions and others choose them and the truth is the oracle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from fewshot.calibration.calibrated_classifier import CalibratedClassifier
from fewshot.inference.predict import calibrated_logits
from fewshot.suggestion import LabelledRows, Sample, suggest
from tests.bench.labelled_sets import PhotoSet, find_sets
from tests.bench.result import Gate, Result
from tests.bench.selection_baselines import (
    Round,
    Rows,
    choose_k_centre,
    choose_margin,
    choose_random,
    choose_typical,
)

SETS = ("grocery", "trashnet")
OURS, RANDOM = "suggest", "random"
BASELINES: Mapping[str, Callable[[Round], Rows]] = {
    RANDOM: choose_random,
    "margin": choose_margin,
    "k-centre": choose_k_centre,
    "TypiClust": choose_typical,
}
STARTS = ("no label", "one a class")
ROUNDS = {"grocery": 4, "trashnet": 5}
"""Of a curve. The first two add as many labels as there are classes, each other one twice as many as the one before."""

Archive: TypeAlias = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Features [N, D] and labels [N]."""


def run(*, images: int, repeat: int, sets: Sequence[str] = SETS, rounds: int | None = None) -> Result:
    """Choose, label and classify in rounds.

    Args:
        images: of an archive, at most.
        repeat: draws of the archive's order, of the first labels and, where a set has few images to learn from, of
            those that are measured on.
        sets: names of sets.
        rounds: of a curve; None takes those of the set.
    """
    found = {photos.name: photos for photos in find_sets(sets)}
    rows = [
        _row(name, start, budget, accuracies)
        for name, photos in found.items()
        for start in STARTS
        for budget, accuracies in _curves(photos, start, images, repeat, rounds or ROUNDS[name]).items()
    ]
    title = f"accuracy in % of GDA on other images, by the number of labels; mean of {repeat} draws"
    return Result("suggestion", title, rows, _gates(rows))


def _curves(photos: PhotoSet, start: str, images: int, repeat: int, rounds: int) -> dict[int, dict[str, list[float]]]:
    """Return accuracies by number of labels and strategy, one a draw."""
    curves: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for seed in range(repeat):
        archive, test = _archive(photos, images, seed)
        for name in (OURS, *BASELINES):
            for budget, accuracy in _curve(photos, archive, test, name, start, seed, rounds):
                curves[budget][name].append(accuracy)
    return curves


def _archive(photos: PhotoSet, images: int, seed: int) -> tuple[Archive, Archive]:
    """Return an archive in random order, and images to measure on: half of the test split if the other one is small."""
    rng = np.random.default_rng(seed)
    features, labels, is_small = (
        photos.features,
        photos.labels,
        len(photos.labels["train"]) < len(photos.labels["test"]) / 2,
    )
    if is_small:
        order = rng.permutation(len(labels["test"]))
        half = len(order) // 2
        x, y = features["test"][order], labels["test"][order]
        return (x[:half][:images], y[:half][:images]), (x[half:], y[half:])
    order = rng.permutation(len(labels["train"]))[:images]
    return (features["train"][order], labels["train"][order]), (features["test"], labels["test"])


def _curve(
    photos: PhotoSet, archive: Archive, test: Archive, name: str, start: str, seed: int, rounds: int
) -> Iterator[tuple[int, float]]:
    features, truth = archive
    K = len(photos.space)
    labelled = np.zeros(0, np.int64)
    if start == STARTS[1]:
        labelled = np.array([np.flatnonzero(truth == label)[0] for label in range(K) if (truth == label).any()])
    classifier = photos.fit(features[labelled], truth[labelled])
    for turn in range(rounds):
        count = K if not turn else K * 2 ** (turn - 1)
        chosen = _choose(name, classifier, archive, labelled, count, K, seed)
        labelled = np.concatenate([labelled, chosen])
        classifier = photos.fit(features[labelled], truth[labelled])
        yield len(labelled), 100.0 * accuracy(classifier, test)


def _choose(
    name: str, classifier: CalibratedClassifier, archive: Archive, labelled: Rows, count: int, K: int, seed: int
) -> Rows:
    features, truth = archive
    logits = calibrated_logits(classifier, torch.from_numpy(features))
    probabilities: NDArray[np.float32] = logits.softmax(dim=1).numpy()
    if name != OURS:
        known = probabilities if len(labelled) else None
        return BASELINES[name](Round(features, labelled, count, known, seed))
    doubt = 1.0 - probabilities.max(axis=1) if classifier.has_scores else np.ones(len(features), np.float32)
    given = LabelledRows(features[labelled], truth[labelled], K)
    picks = suggest(Sample(features, doubt), given, count, guesses=probabilities.argmax(axis=1))
    return np.array([pick.row for pick in picks], np.int64)


def accuracy(classifier: CalibratedClassifier, test: Archive) -> float:
    """Return the share of images that are classified correctly, in [0, 1]."""
    features, truth = test
    guesses = calibrated_logits(classifier, torch.from_numpy(features)).argmax(dim=1).numpy()
    return float((guesses == truth).mean())


def _row(name: str, start: str, budget: int, accuracies: Mapping[str, Sequence[float]]) -> dict[str, str | float]:
    difference = np.subtract(accuracies[OURS], accuracies[RANDOM])
    means = {strategy: float(np.mean(values)) for strategy, values in accuracies.items()}
    error = float(difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else 0.0
    numbers = {"above random": float(difference.mean()), "± (standard error)": error}
    return {"set": name, "first labels": start, "labels": str(budget)} | means | numbers


def _gates(rows: Sequence[Mapping[str, str | float]]) -> list[Gate]:
    above = [float(row["above random"]) for row in rows]
    over_margin = [float(row[OURS]) - float(row["margin"]) for row in rows]
    return [
        Gate.at_least("points above random, the lowest of all", min(above), 0.0),
        Gate.at_least("points above random, mean", float(np.mean(above)), 0.0),
        Gate.at_least("points above margin, mean", float(np.mean(over_margin)), 0.0),
    ]
