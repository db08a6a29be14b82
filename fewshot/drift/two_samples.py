"""How well a linear discriminant tells two samples of images apart, on images that it has not learned from.

The classifier two-sample test with a permutation null. Both samples are pooled, shuffled and cut into folds. Rows of a
fold are scored by a ridge regression of the label (which sample a row is from) on the rows of the other folds, which is
Fisher's discriminant with a shrunken covariance. It stands in for logistic regression because its scores are linear in
the labels: the covariances are factorized once, and each relabelling of the pooled sample costs products of matrices.
The penalty follows from the pooled rows, which relabelling leaves as they are. So the statistics of the true labels are
exchangeable with those of permuted ones if both samples are of one population, and p-values are exact (`relabelling`).

Two statistics of the same scores, both within folds, since the offsets of two folds differ:

* the AUC, the probability that an image of one sample scores above one of the other: a shift of all images;
* the tail, the share of new images that score above 95 % of the reference: a part of the images that is of another
  kind. Were a fifth of them perfectly told apart, and all others as before, the AUC would be 0.6 at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from fewshot.drift.relabelling import relabelled_p_values

FOLDS = 5
PENALTY = 0.1
"""Of the ridge regression, as a share of the mean eigenvalue of the pooled covariance."""
TAIL = 0.05
"""Share of the reference that scores above the bound of the tail."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Separation:
    """How far two samples can be told apart.

    Attributes:
        auc: in [0, 1]; 0.5 if they cannot.
        tail: share of new rows that score above the bound, in [0, 1]; about `TAIL` if they cannot.
        auc_p_value: probability of such an AUC, or a larger one, if both samples are of one population.
        tail_p_value: likewise, of the tail.
    """

    auc: float
    tail: float
    auc_p_value: float
    tail_p_value: float


class Discriminant:
    """Scores of the rows of two samples, for the true labels and for permuted ones.

    Args:
        reference: [n0, D] float32, unit rows.
        present: [n1, D] float32, unit rows.
        seed: of the shuffle and of the permutations.

    Raises:
        ValueError: a sample has fewer rows than there are folds, or the widths differ.
    """

    def __init__(self, reference: NDArray[np.float32], present: NDArray[np.float32], *, seed: int) -> None:
        if reference.shape[1] != present.shape[1] or min(len(reference), len(present)) < FOLDS:
            raise ValueError(f"cannot compare rows of the shapes {reference.shape} and {present.shape}")
        self._rng = np.random.default_rng(seed)
        rows = np.concatenate([reference, present])
        order = self._rng.permutation(len(rows))
        self._labels = (order >= len(reference)).astype(np.float32)
        rows = rows[order] - rows.mean(axis=0)
        self._folds = np.array_split(rows, FOLDS)
        grams = [fold.T @ fold for fold in self._folds]
        whole = np.sum(grams, axis=0)
        penalty = PENALTY * float(np.trace(whole)) / len(whole) + np.finfo(np.float32).tiny
        ridge = penalty * np.eye(len(whole), dtype=np.float32)
        self._factors = [cho_factor(whole - gram + ridge, lower=True) for gram in grams]
        self._scores = self._held_out_scores(np.array_split(self._labels[:, None], FOLDS))
        self._observed = self._statistics(self._labels[:, None])
        self._order, self._present = order, slice(len(reference), None)

    @property
    def auc(self) -> float:
        """AUC of the true labels, in [0, 1]."""
        return float(self._observed[0, 0])

    @property
    def tail(self) -> float:
        """Tail of the true labels, in [0, 1]."""
        return float(self._observed[1, 0])

    @property
    def expected_tail(self) -> float:
        """The tail if both samples are of one population: a little above `TAIL`, as few reference rows leave gaps.

        Of t reference rows in a fold, a new row is above all but floor(`TAIL` t) with probability
        (floor(`TAIL` t) + 1) / (t + 1).
        """
        folds = np.array_split(self._labels, FOLDS)
        new, old = (np.array([float((part == label).sum()) for part in folds]) for label in (1.0, 0.0))
        return float(new @ ((np.floor(TAIL * old) + 1.0) / (old + 1.0)) / new.sum())

    def unlikeness(self) -> Floats:
        """Return [n1], how far above the mean of the reference each new row scores, in its fold."""
        parts = np.array_split(self._labels[:, None], FOLDS)
        scores = [fold[:, 0] - fold[part[:, 0] < 0.5, 0].mean() for fold, part in zip(self._scores, parts, strict=True)]
        found = np.empty(len(self._labels))
        found[self._order] = np.concatenate(scores)
        return found[self._present]

    def separation(self, permutations: int) -> Separation:
        """Return both statistics with p-values of so many permutations at most, >= 1."""
        auc_p_value, tail_p_value = relabelled_p_values(self._reach, permutations)
        return Separation(self.auc, self.tail, auc_p_value, tail_p_value)

    def _reach(self, count: int) -> NDArray[np.bool_]:
        """Return [2, count], which of the next permutations reach each statistic."""
        labels = self._rng.permuted(np.tile(self._labels, (count, 1)), axis=1).T
        return self._statistics(labels) >= self._observed

    def _statistics(self, labels: NDArray[np.float32]) -> Floats:
        """Return [2, P], the AUCs and tails of labels [n, P] in {0, 1}."""
        parts = np.array_split(labels, FOLDS)
        scored = zip(self._held_out_scores(parts), parts, strict=True)
        pairs, ordered, tail = np.sum([_counts(scores, part) for scores, part in scored], axis=0)
        return np.stack([ordered / np.maximum(pairs, 1.0), tail / self._labels.sum()])

    def _held_out_scores(self, parts: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Return [m, P] of each fold, from labels [m, P] of each: what the other folds say about it."""
        centred = [part - self._labels.mean() for part in parts]
        products = [fold.T @ part for fold, part in zip(self._folds, centred, strict=True)]
        whole = np.sum(products, axis=0)
        solved = [cho_solve(factor, whole - own) for factor, own in zip(self._factors, products, strict=True)]
        return [fold @ weights for fold, weights in zip(self._folds, solved, strict=True)]


def _counts(scores: NDArray[np.float32], labels: NDArray[np.float32]) -> Floats:
    """Return what the statistics are made of, in one fold.

    Args:
        scores: [m, P].
        labels: [m, P], 1 for new rows.

    Returns:
        [3, P]: pairs of a reference row and a new one; those in which the new one scores higher; new rows in the tail.
        Equal scores are ordered at random, as the rows are.
    """
    is_new = np.take_along_axis(labels, np.argsort(scores, axis=0, kind="stable"), axis=0) > 0.5
    below = np.cumsum(~is_new, axis=0)
    total = below[-1]
    new = len(labels) - total
    in_tail = is_new & (total - below <= np.floor(TAIL * total))
    return np.stack([new * total, (below * is_new).sum(axis=0), in_tail.sum(axis=0)]).astype(np.float64)
