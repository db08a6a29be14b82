"""Choice of hyperparameters and estimates of accuracy from the shots alone, by stratified cross-validation.

Images are held out in up to four stratified folds: a query is the deterministic view of a shot, and the other shots are
the ones to learn from. These are fewer than in the final fit, and duplicating every shot of a cache is the same as
doubling its weight alpha; so the shots of each class are oversampled to their full number, and the best point on the
folds is the best point for the final fit, without a correction. (For a class with S shots of which S' stay, this is the
factor S/S' on alpha: exact in the sum of votes, exact key by key if S' divides S.) The only shot of a class is never
held out. Equal shots of a class, such as those of an oversampled fold that is itself split, are in the same fold and
are one query: no image is held out from itself.

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
from fewshot.optimization.content_order import content_digests
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
        val: the images of `whole.val` to choose hyperparameters on, which are not among the queries; None for none.
    """

    whole: Problem
    support_rows: Tensor
    queries: Labelled
    val: Labelled | None = None

    @property
    def problem(self) -> Problem:
        """The problem with the shots in `support_rows` and this `val`; built at each access, as it can be large."""
        support, depth = self.whole.support[self.support_rows], self.whole.depth + 1
        return replace(self.whole, support=support, val=self.val, depth=depth, not_chosen_on=frozenset())


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
        At most four splits with at most `MAX_QUERIES` queries in all; none if no class has two shots. A problem without
        one of these folds is split into the others.
    """
    limit = min(MAX_QUERIES, MAX_COSINES // max(1, len(problem.support)))
    if problem.val is not None and len(problem.val):
        everything = torch.arange(len(problem.support))
        return [Split(problem, everything, problem.val[_sample(problem.val, limit, seed=seed)])]
    digests = content_digests(problem.support, seed=seed)
    number = max(2, FOLDS - problem.depth)
    folds = _fold_numbers(problem.support.labels.tolist(), digests, number=number)
    sampled = _sample(problem.support, limit, seed=seed)
    splits = []
    for fold in range(number):
        queries = sampled[folds[sampled] == fold]
        if len(queries):
            support_rows = _oversampled(problem.support.labels, folds != fold, digests)
            splits.append(Split(problem, support_rows, problem.support[queries]))
    return splits


def nested_splits(problem: Problem, *, seed: int) -> list[Split]:
    """Split a problem so that a method, hyperparameters and all, can be measured on the queries.

    Those of `held_out_splits` are so; with `problem.val`, a fold of it is held out, and the rest is left to choose on.

    Args:
        problem: the shots, and `val`.
        seed: of the draw of folds and queries.

    Returns:
        At most four splits with at most `MAX_QUERIES` queries in all; none if no class has two shots and there is no
        `val`.
    """
    val = problem.val
    if val is None or not len(val):
        return held_out_splits(problem, seed=seed)
    everything, sampled = torch.arange(len(problem.support)), val[_sample(val, MAX_QUERIES, seed=seed)]
    folds = _content_ranks(sampled, seed=seed) % FOLDS
    held_out = (folds == fold for fold in range(FOLDS))
    return [Split(problem, everything, sampled[out], val=sampled[~out]) for out in held_out if out.any()]


def text_only_splits(problem: Problem, *, seed: int) -> list[Split]:
    """Split a problem of one shot a class: the classes of a fold of the images keep only their text.

    A query competes with classes that still have their shot, so the measured accuracy is a lower bound of the accuracy
    with all shots, and exact for zero-shot.
    """
    folds, rows = _content_ranks(problem.support, seed=seed) % FOLDS, torch.arange(len(problem.support))
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
    """Return the splits to choose hyperparameters on.

    Returns:
        The first splits of `held_out_splits`, without queries in `problem.not_chosen_on`; none if they have fewer
        queries than `min_queries` in all.
    """
    splits = held_out_splits(problem, seed=seed)[:folds]
    if problem.not_chosen_on:
        kept = [_without(split, problem.not_chosen_on) for split in splits]
        splits = [split for split in kept if len(split.queries)]
    return splits if sum(len(split.queries) for split in splits) >= min_queries else []


def _without(split: Split, not_chosen_on: Collection[bytes]) -> Split:
    kept = [digest not in not_chosen_on for digest in content_digests(split.queries)]
    return replace(split, queries=split.queries[torch.tensor(kept, dtype=torch.bool)])


def query_parts(splits: Sequence[Split], *, seed: int) -> list[Tensor]:
    """Divide the queries of splits into parts, on one of which what was chosen on the others can be measured.

    Args:
        splits: the splits that a method is chosen on.
        seed: of the draw of parts.

    Returns:
        For each split [Q] int64, the part of each query: the number of its split; of a single split, one of four.
    """
    if len(splits) == 1:
        return [_content_ranks(splits[0].queries, seed=seed) % FOLDS]
    return [torch.full((len(split.queries),), number) for number, split in enumerate(splits)]


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


def _fold_numbers(labels: list[int], digests: list[bytes], *, number: int) -> Tensor:
    """Return [M] int64: which of the folds an image is held out in; -1 for the only image of its class.

    The images of a class are dealt to the folds in turn. So without one of n folds, what is left is dealt to the same
    n - 1 folds again, and two folds can be left out in either order.
    """
    folds = torch.full((len(labels),), -1, dtype=torch.int64)
    for rows in _rows_by_class(labels, digests).values():
        ranks = _ranks([digests[row] for row in rows])
        if ranks[-1]:
            folds[rows] = torch.tensor(ranks) % number
    return folds


def _oversampled(labels: Tensor, kept: Tensor, digests: list[bytes]) -> Tensor:
    """Return the rows of the kept images, those of a class repeated in turn until the class has its full size."""
    support_rows: list[int] = []
    stays: list[bool] = kept.tolist()
    for rows in _rows_by_class(labels.tolist(), digests).values():
        left = list({digests[row]: row for row in rows if stays[row]}.values())
        support_rows += [left[turn % len(left)] for turn in range(len(rows))]
    return torch.tensor(support_rows, dtype=torch.int64)


def _rows_by_class(labels: list[int], digests: list[bytes]) -> dict[int, list[int]]:
    """Return the rows of each class with images, in the order of content."""
    rows: dict[int, list[int]] = {}
    for row in sorted(range(len(labels)), key=digests.__getitem__):
        rows.setdefault(labels[row], []).append(row)
    return rows


def _sample(images: Labelled, limit: int, *, seed: int) -> Tensor:
    """Return at most `limit` rows of different images; independent of the folds, which use another seed."""
    digests, labels = content_digests(images, seed=seed + 1), images.labels.tolist()
    rows = {(digests[row], labels[row]): row for row in sorted(range(len(digests)), key=digests.__getitem__)}
    return torch.tensor(list(rows.values())[:limit], dtype=torch.int64)


def _content_ranks(images: Labelled, *, seed: int) -> Tensor:
    """Return [M] int64: the place of each image in the order of content; equal images have the same."""
    digests = content_digests(images, seed=seed)
    order = sorted(range(len(digests)), key=digests.__getitem__)
    ranks = torch.empty(len(digests), dtype=torch.int64)
    ranks[order] = torch.tensor(_ranks([digests[row] for row in order]), dtype=torch.int64)
    return ranks


def _ranks(digests: list[bytes]) -> list[int]:
    """Return the place of each of the sorted digests among the different ones."""
    places = {digest: place for place, digest in enumerate(dict.fromkeys(digests))}
    return [places[digest] for digest in digests]
