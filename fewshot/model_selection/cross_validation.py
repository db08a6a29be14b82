"""Choice of hyperparameters and estimates of accuracy from the shots alone, by stratified cross-validation.

Images are held out in up to four stratified folds: a query is the deterministic view of a shot, and the other shots are
the ones to learn from. These are fewer than in the final fit, and duplicating every shot of a cache is the same as
doubling its weight alpha; so the shots of each class are oversampled to their full number, and the best point on the
folds is the best point for the final fit, without a correction. (For a class with S shots of which S' stay, this is the
factor S/S' on alpha: exact in the sum of votes, exact key by key if S' divides S.) The only shot of a class is never
held out.

The objective is held-out accuracy, to within half its standard error: the best of a thousand points on fifty images is
the luckiest, not the best. (On three sets of photographs this half is worth 1.5 points of accuracy to APE's grid of a
thousand, 0.3 to Tip-Adapter's of a hundred, nothing to smaller ones; a whole standard error is too much.) Ties are
broken by the negative log-likelihood at the best temperature, which is the loss that remains after calibration (without
a temperature, every large alpha would be penalised for its scale alone), with the targets softened as in
`fewshot.calibration.temperature.fit_temperature`, so that a best temperature exists. Of points that are still equal,
the first one is chosen, and methods list the points closest to zero-shot first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor

from fewshot.evaluation.metrics import correct_rows
from fewshot.optimization.content_order import by_content, content_digests
from fewshot.problem import Labelled, Problem

FOLDS = 4
MAX_QUERIES = 2048
"""Queries of all folds together."""
MAX_COSINES = 2**27
"""Queries times shots, over all folds: limits memory and time for huge supports."""
MAX_TIE_LOGITS = 2**17
"""Logits of a split that are used to break ties between points of equal accuracy on all queries."""
MIN_QUERIES = 8
"""With fewer held-out images, accuracy is too coarse to choose by, and methods take their documented defaults."""
TIE_STANDARD_ERRORS = 0.5
"""Points count as equally accurate within so many standard errors of the best accuracy."""
TEMPERATURES = tuple(2.0**power for power in range(-4, 11))
"""Temperatures among which the best one is chosen to break ties."""

PointT = TypeVar("PointT", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Split:
    """Shots to learn from, and labelled images that are not among them.

    Attributes:
        whole: the problem that was split.
        support_rows: [m] int64, rows of `whole.support` to learn from; a row may be repeated.
        queries: held-out images; only their deterministic view is used.
    """

    whole: Problem
    support_rows: Tensor
    queries: Labelled

    @property
    def problem(self) -> Problem:
        """The problem with the shots in `support_rows`, without `val`; built at each access, as it can be large."""
        return replace(self.whole, support=self.whole.support[self.support_rows], val=None)


Sweep: TypeAlias = Callable[[Split, Collection[PointT]], Iterator[tuple[PointT, Tensor]]]
"""Yields each of the given points with the [Q, K] logits of a split's queries, see `best_point`."""
Choose: TypeAlias = Callable[[Sequence[PointT], Iterable[Split], Sweep[PointT]], PointT]
"""Chooses one of the points."""


def held_out_splits(problem: Problem, *, seed: int) -> list[Split]:
    """Split a problem: one split with `problem.val` as queries if it has any, else stratified folds of the shots.

    The splits depend on the set of shots and the seed, not on the order of the shots.

    Args:
        problem: the shots, and `val`.
        seed: of the draw of folds and queries.

    Returns:
        At most four splits with at most `MAX_QUERIES` queries in all; none if no class has two shots.
    """
    limit = min(MAX_QUERIES, MAX_COSINES // max(1, len(problem.support)))
    if problem.val is not None and len(problem.val):
        everything = torch.arange(len(problem.support))
        return [Split(problem, everything, problem.val[_sample(problem.val, limit, seed=seed)])]
    digests = content_digests(problem.support, seed=seed)
    folds = _fold_numbers(problem.support.labels.tolist(), digests)
    sampled = _sample(problem.support, limit, seed=seed)
    splits = []
    for fold in range(FOLDS):
        queries = sampled[folds[sampled] == fold]
        if len(queries):
            support_rows = _oversampled(problem.support.labels, folds != fold, digests)
            splits.append(Split(problem, support_rows, problem.support[queries]))
    return splits


def text_only_splits(problem: Problem, *, seed: int) -> list[Split]:
    """Split a problem of one shot a class: the classes of a fold of the images keep only their text.

    A query competes with classes that still have their shot, so the measured accuracy is a lower bound of the accuracy
    with all shots, and exact for zero-shot.
    """
    M = len(problem.support)
    ranks = torch.empty(M, dtype=torch.int64)
    ranks[by_content(problem.support, seed=seed)] = torch.arange(M)
    folds, rows = ranks % FOLDS, torch.arange(M)
    sampled = _sample(problem.support, MAX_QUERIES, seed=seed)
    by_fold = ((rows[folds != fold], sampled[folds[sampled] == fold]) for fold in range(FOLDS))
    return [Split(problem, support_rows, problem.support[queries]) for support_rows, queries in by_fold if len(queries)]


def select_point(
    points: Sequence[PointT],
    problem: Problem,
    sweep: Callable[[Split, Collection[PointT]], Iterator[tuple[PointT, Tensor]]],
    *,
    default: Callable[[Problem], PointT],
    seed: int,
    folds: int = FOLDS,
    min_queries: int = MIN_QUERIES,
    choose: Choose[PointT] | None = None,
) -> PointT:
    """Choose a point of a grid by cross-validation.

    Args:
        points: the grid, the preferred points first; a single point is returned at once.
        problem: the shots.
        sweep: see `best_point`.
        default: returns the method's documented default; called if there are fewer held-out images than `min_queries`.
        seed: of the draw of the folds.
        folds: number of folds to use, at most four.
        min_queries: minimum number of held-out images.
        choose: `best_point`, the choice if there is None, or another function of the same arguments.
    """
    if len(points) == 1:
        return points[0]
    splits = selection_splits(problem, seed=seed, folds=folds, min_queries=min_queries)
    return (choose or best_point)(points, splits, sweep) if splits else default(problem)


def select_as_published(
    points: Sequence[PointT],
    problem: Problem,
    sweep: Sweep[PointT],
    *,
    default: Callable[[Problem], PointT],
    seed: int,
    folds: int = FOLDS,
) -> PointT:
    """Choose as the published searches do: the first of the most accurate points, on any number of validation images.

    Without `problem.val` it is chosen by cross-validation, and needs `MIN_QUERIES` held-out images.
    """
    return select_point(
        points,
        problem,
        sweep,
        default=default,
        seed=seed,
        folds=folds,
        min_queries=MIN_QUERIES if problem.val is None else 1,
        choose=most_accurate_point,
    )


def selection_splits(problem: Problem, *, seed: int, folds: int = FOLDS, min_queries: int = MIN_QUERIES) -> list[Split]:
    """Return the first splits of `held_out_splits`, or none if they have fewer queries than `min_queries` in all."""
    splits = held_out_splits(problem, seed=seed)[:folds]
    return splits if sum(len(split.queries) for split in splits) >= min_queries else []


def best_point(
    points: Sequence[PointT],
    splits: Iterable[Split],
    sweep: Callable[[Split, Collection[PointT]], Iterator[tuple[PointT, Tensor]]],
) -> PointT:
    """Return the point of a grid with the best held-out accuracy; the module docstring says how ties are broken.

    Args:
        points: the grid, the preferred points first.
        splits: the splits to measure on.
        sweep: yields each of the given points with the [Q, K] logits of a split's queries, in any order, so that a
            method can compute its matrix product once for a split and reuse it for all points.

    Returns:
        One of `points`.
    """
    splits = list(splits)
    counts = _correct_counts(points, splits, sweep)
    queries = sum(len(split.queries) for split in splits)
    enough = max(counts) - TIE_STANDARD_ERRORS * math.sqrt(max(counts) * (queries - max(counts)) / queries)
    tied = [point for point, count in zip(points, counts, strict=True) if count >= enough]
    if len(tied) == 1:
        return tied[0]
    losses = dict.fromkeys(tied, torch.zeros(len(TEMPERATURES), dtype=torch.float64))
    for split in splits:
        for point, logits in sweep(split, tied):
            losses[point] = losses[point] + _losses(logits, split.queries.labels).nan_to_num(nan=torch.inf)
    # Rounded, so that the order of summation does not decide.
    return min(tied, key=lambda point: round(float(losses[point].min()) / queries, 4))


def most_accurate_point(points: Sequence[PointT], splits: Iterable[Split], sweep: Sweep[PointT]) -> PointT:
    """Return the first of the points with the best held-out accuracy, see `best_point` for the arguments."""
    counts = _correct_counts(points, splits, sweep)
    return points[counts.index(max(counts))]


def _correct_counts(points: Sequence[PointT], splits: Iterable[Split], sweep: Sweep[PointT]) -> list[int]:
    """Return the number of queries of all splits that each point classifies correctly."""
    correct: dict[PointT, Tensor] = {point: torch.zeros((), dtype=torch.int64) for point in points}
    for split in splits:
        for point, logits in sweep(split, points):
            correct[point] = correct[point] + correct_rows(logits, split.queries.labels).sum()
    return [int(correct[point]) for point in points]


def _losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return [len(TEMPERATURES)] float64: the summed negative log-likelihood, extrapolated from the first rows."""
    rows = slice(max(1, MAX_TIE_LOGITS // logits.shape[1]))
    share = 1.0 / (len(labels) + 2.0)
    own = logits[rows].gather(1, labels[rows, None]).squeeze(1)
    target = (1.0 - share) * own + share * logits[rows].mean(dim=1)
    inverse = 1.0 / logits.new_tensor(TEMPERATURES)
    losses = torch.logsumexp(logits[rows] * inverse[:, None, None], dim=2) - target * inverse[:, None]
    return losses.double().mean(dim=1).cpu() * len(labels)


def _fold_numbers(labels: list[int], digests: list[bytes]) -> Tensor:
    """Return [M] int64: the fold in which an image is held out; -1 for the only image of its class."""
    folds = torch.full((len(labels),), -1, dtype=torch.int64)
    for rows in _rows_by_class(labels, digests).values():
        if len(rows) > 1:
            folds[rows] = torch.arange(len(rows)) % FOLDS
    return folds


def _oversampled(labels: Tensor, kept: Tensor, digests: list[bytes]) -> Tensor:
    """Return the rows of the kept images, those of a class repeated in turn until the class has its full size."""
    support_rows: list[int] = []
    stays: list[bool] = kept.tolist()
    for rows in _rows_by_class(labels.tolist(), digests).values():
        left = [row for row in rows if stays[row]]
        support_rows += [left[turn % len(left)] for turn in range(len(rows))]
    return torch.tensor(support_rows, dtype=torch.int64)


def _rows_by_class(labels: list[int], digests: list[bytes]) -> dict[int, list[int]]:
    """Return the rows of each class with images, in the order of content."""
    rows: dict[int, list[int]] = {}
    for row in sorted(range(len(labels)), key=digests.__getitem__):
        rows.setdefault(labels[row], []).append(row)
    return rows


def _sample(images: Labelled, limit: int, *, seed: int) -> Tensor:
    """Return at most `limit` rows in the order of content; independent of the folds, which use another seed."""
    return by_content(images, seed=seed + 1)[:limit]
