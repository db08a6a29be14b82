"""Accuracy against the number of labels, where suggestions and others choose them and the truth is the oracle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from fewshot.calibration.calibrated_classifier import CalibratedClassifier
from fewshot.inference.predict import calibrated_logits
from tests.bench.labelled_sets import PhotoSet, Progress, find_sets
from tests.bench.result import Gate, Result
from tests.bench.selection_baselines import (
    Round,
    Rows,
    choose_k_centre,
    choose_margin,
    choose_random,
    choose_suggested,
    choose_typical,
)

Archive: TypeAlias = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Features [N, D] and labels [N]."""
Strategies: TypeAlias = Mapping[str, Callable[[Round], Rows]]

ERROR = "± (standard error)"
"""Column of the standard error of the difference from random labels."""
OURS, RANDOM, MARGIN, TYPICAL = "suggest", "random", "margin", "TypiClust"
STRATEGIES: Strategies = {
    OURS: choose_suggested,
    RANDOM: choose_random,
    MARGIN: choose_margin,
    "k-centre": choose_k_centre,
    TYPICAL: choose_typical,
}
PARTS: Strategies = {
    OURS: choose_suggested,
    "without doubt": partial(choose_suggested, doubt=False),
    "without shrinking radius": partial(choose_suggested, shrinking_radius=False),
    "without rare classes": partial(choose_suggested, rare_classes=False),
    "without all three": partial(choose_suggested, doubt=False, shrinking_radius=False, rare_classes=False),
}
STARTS = ("no label", "one a class")
ROUNDS = 5
"""Of a curve, at most. The first two add as many labels as there are classes, each other one twice as many as the one
before."""
MOST_LABELLED = 0.5
"""Share of an archive: where more is labelled, there is little left to choose from, and the curve ends."""


def run(*, images: int, repeat: int, sets: Sequence[str] | None = None, rounds: int = ROUNDS) -> Result:
    """Choose, label and classify in rounds, by suggestions and by other ways.

    Args:
        images: of an archive, at most.
        repeat: draws of the archive's order, of the first labels and, where a set has few images to learn from, of
            those that are measured on.
        sets: names of sets; None takes all.
        rounds: of a curve, at most.
    """
    cells = _cells(STRATEGIES, images, repeat, sets, rounds)
    rows = [{**_place(cell), **means(accuracies), **_above_random(accuracies)} for cell, accuracies in cells.items()]
    title = f"accuracy in % of GDA on other images, by the number of labels; mean of {repeat} draws"
    return Result("suggestion", title, rows, _gates(rows))


def run_parts(*, images: int, repeat: int, sets: Sequence[str] | None = None, rounds: int = ROUNDS) -> Result:
    """As `run`, by suggestions, and by suggestions without one of their parts. The last row is the mean of the others.

    A gate is the mean loss, in points, without a part; not without the hunt for rare classes, which these sets lack.
    """
    cells = _cells(PARTS, images, repeat, sets, rounds)
    rows: list[dict[str, str | float]] = [{**_place(cell), **means(values)} for cell, values in cells.items()]
    mean: dict[str, float] = {name: float(np.mean([float(row[name]) for row in rows])) for name in PARTS}
    gated = [name for name in PARTS if name not in (OURS, "without rare classes")]
    gates = [Gate.at_least(f"points lost {name}, mean", mean[OURS] - mean[name], 0.0) for name in gated]
    title = f"accuracy in % of GDA on other images; mean of {repeat} draws"
    place = {"set": "mean", "first labels": "", "labels": ""}
    return Result("suggestion_parts", title, [*rows, {**place, **mean}], gates)


Cell: TypeAlias = tuple[str, str, int]
"""Name of the set, first labels, number of labels."""
Accuracies: TypeAlias = Mapping[str, Sequence[float]]
"""By strategy, in %, one a draw."""


def _cells(
    strategies: Strategies, images: int, repeat: int, sets: Sequence[str] | None, rounds: int
) -> Mapping[Cell, Accuracies]:
    found = find_sets(sets)
    cells: dict[Cell, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    progress = Progress(len(found) * len(STARTS) * repeat)
    for photos in found:
        for start in STARTS:
            for seed in range(repeat):
                archive, test = _archive(photos, images, seed)
                for name, choose in strategies.items():
                    for budget, accuracy in _curve(photos, archive, test, choose, start, seed, rounds):
                        cells[photos.name, start, budget][name].append(accuracy)
                progress.step(f"{photos.name}, {start}, draw {seed + 1} of {repeat}")
    return cells


def _archive(photos: PhotoSet, images: int, seed: int) -> tuple[Archive, Archive]:
    """Return an archive in random order, and images to measure on: half of the test split if the other one is small."""
    rng = np.random.default_rng(seed)
    features, labels = photos.features, photos.labels
    if len(labels["train"]) < len(labels["test"]) / 2:
        order = rng.permutation(len(labels["test"]))
        half = len(order) // 2
        x, y = features["test"][order], labels["test"][order]
        return (x[:half][:images], y[:half][:images]), (x[half:], y[half:])
    order = rng.permutation(len(labels["train"]))[:images]
    return (features["train"][order], labels["train"][order]), (features["test"], labels["test"])


def _curve(
    photos: PhotoSet,
    archive: Archive,
    test: Archive,
    choose: Callable[[Round], Rows],
    start: str,
    seed: int,
    rounds: int,
) -> Iterator[tuple[int, float]]:
    """Yield numbers of labels, and the accuracies with them in %."""
    features, truth = archive
    K = len(photos.space)
    labelled = np.zeros(0, np.int64)
    budget = 0
    if start == STARTS[1]:
        labelled = np.array([np.flatnonzero(truth == label)[0] for label in range(K) if (truth == label).any()])
        budget = K
    classifier = photos.fit(features[labelled], truth[labelled])
    for turn in range(rounds):
        count = K if not turn else K * 2 ** (turn - 1)
        budget += count
        if budget > MOST_LABELLED * len(truth):
            return
        probabilities = calibrated_logits(classifier, torch.from_numpy(features)).softmax(dim=1).numpy()
        state = Round(features, labelled, truth[labelled], count, probabilities, classifier.has_scores, seed)
        labelled = np.concatenate([labelled, choose(state)])
        classifier = photos.fit(features[labelled], truth[labelled])
        yield budget, 100.0 * accuracy(classifier, test)


def accuracy(classifier: CalibratedClassifier, test: Archive) -> float:
    """Return the share of images that are classified correctly, in [0, 1]."""
    features, truth = test
    guesses = calibrated_logits(classifier, torch.from_numpy(features)).argmax(dim=1).numpy()
    return float((guesses == truth).mean())


def standard_error(differences: NDArray[np.float64]) -> float:
    """Return the standard error of a mean of independent draws; 0 of one."""
    return float(differences.std(ddof=1) / np.sqrt(len(differences))) if len(differences) > 1 else 0.0


def means(accuracies: Accuracies) -> dict[str, float]:
    """Return the mean of the draws, by strategy."""
    return {strategy: float(np.mean(values)) for strategy, values in accuracies.items()}


def _place(cell: Cell) -> dict[str, str | float]:
    name, start, budget = cell
    return {"set": name, "first labels": start, "labels": str(budget)}


def _above_random(accuracies: Accuracies) -> dict[str, float]:
    difference = np.subtract(accuracies[OURS], accuracies[RANDOM])
    return {"above random": float(difference.mean()), ERROR: standard_error(difference)}


def _gates(rows: Sequence[Mapping[str, str | float]]) -> list[Gate]:
    bounds = [float(row["above random"]) + 2.0 * float(row[ERROR]) for row in rows]
    gates = [Gate.at_least("points above random and two standard errors, the lowest of all", min(bounds), 0.0)]
    for other in (RANDOM, MARGIN, TYPICAL):
        over = [float(row[OURS]) - float(row[other]) for row in rows]
        gates.append(Gate.at_least(f"points above {other}, mean", float(np.mean(over)), 0.0))
    return gates
