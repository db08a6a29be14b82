"""Ways to choose what to label next: suggestions, and others to compare them with, plain, for a few thousand images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from fewshot.suggestion import LabelledRows, Sample, median_radius, suggest

MOST_CLUSTERS, NEIGHBOURS, LEAST_MEMBERS = 500, 20, 5
"""Constants of TypiClust's authors."""

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Round:
    """What a strategy knows when it chooses.

    Attributes:
        features: [N, D] float32, unit rows, in random order.
        labelled: rows with labels.
        labels: [L] int64, theirs.
        count: rows to choose.
        probabilities: [N, K] of the classifier, which is zero-shot before there are labels.
        is_calibrated: whether these are probabilities that labels are right.
        seed: of everything random.
    """

    features: NDArray[np.float32]
    labelled: Rows
    labels: NDArray[np.int64]
    count: int
    probabilities: NDArray[np.float32]
    is_calibrated: bool
    seed: int

    @property
    def unlabelled(self) -> Rows:
        """All other rows, in their random order."""
        return np.setdiff1d(np.arange(len(self.features)), self.labelled)


def choose_suggested(
    state: Round, *, doubt: bool = True, shrinking_radius: bool = True, rare_classes: bool = True
) -> Rows:
    """As `fewshot suggest` does, or without one of its parts.

    Args:
        state: what is known.
        doubt: weigh images by it, once it is calibrated.
        shrinking_radius: take the radius that shrinks as labels grow; otherwise the median distance of two images.
        rare_classes: hunt for them.
    """
    N, K = state.probabilities.shape
    weights = 1.0 - state.probabilities.max(axis=1) if doubt and state.is_calibrated else np.ones(N, np.float32)
    given = LabelledRows(state.features[state.labelled], state.labels, K)
    guesses = state.probabilities.argmax(axis=1) if rare_classes else None
    radius = None if shrinking_radius else median_radius(state.features, 1)
    picks = suggest(Sample(state.features, weights), given, state.count, guesses=guesses, radius=radius)
    return np.array([pick.row for pick in picks], np.int64)


def choose_random(state: Round) -> Rows:
    """The first ones of a random order."""
    return state.unlabelled[: state.count]


def choose_margin(state: Round) -> Rows:
    """Those with the least lead of the most probable class; at random before there are labels."""
    if not len(state.labelled):
        return choose_random(state)
    best = np.sort(state.probabilities[state.unlabelled], axis=1)[:, -2:]
    return state.unlabelled[np.argsort(best[:, 1] - best[:, 0], kind="stable")[: state.count]]


def choose_k_centre(state: Round) -> Rows:
    """Those that are farthest from all labelled and chosen ones, one after the other (Sener and Savarese 2018)."""
    chosen = list(state.labelled) or [0]
    nearest = (state.features @ state.features[chosen].T).max(axis=1)
    start = len(state.labelled)
    while len(chosen) < start + state.count:
        chosen.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, state.features @ state.features[chosen[-1]])
    return np.array(chosen[start:])


def choose_typical(state: Round) -> Rows:
    """The most typical ones of the largest clusters without labels (TypiClust, Hacohen et al. 2022)."""
    clusters = min(len(state.labelled) + state.count, MOST_CLUSTERS)
    assigned = KMeans(clusters, n_init=1, random_state=state.seed).fit_predict(state.features)
    chosen: list[int] = []
    taken = list(state.labelled)
    for _ in range(state.count):
        labels = np.bincount(assigned[taken], minlength=clusters)
        is_free = ~np.isin(np.arange(len(assigned)), taken)
        sizes = np.bincount(assigned[is_free], minlength=clusters)
        large = (sizes >= LEAST_MEMBERS) if (sizes >= LEAST_MEMBERS).any() else sizes > 0
        order = np.lexsort((-sizes, labels, ~large))
        members = np.flatnonzero(is_free & (assigned == order[0]))
        chosen.append(int(members[_typicality(state.features[members]).argmax()]))
        taken.append(chosen[-1])
    return np.array(chosen)


def _typicality(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """One over the mean distance to the nearest neighbours."""
    distances = np.sqrt(np.maximum(0.0, 2.0 - 2.0 * rows @ rows.T))
    nearest = np.sort(distances, axis=1)[:, 1 : NEIGHBOURS + 1]
    mean = nearest.mean(axis=1) if nearest.shape[1] else np.ones(len(rows), np.float32)
    typical: NDArray[np.float32] = 1.0 / np.maximum(mean, 1e-6)
    return typical
