"""Choosing hyperparameters, and estimating accuracy, with nothing but the shots.

Images are held out in up to four stratified folds: a query is a shot's deterministic view, and what may be learned
from are the other shots. A fold would have fewer shots than the final fit, and duplicating every shot of a cache is
the same as doubling its weight alpha; so a fold is *topped up* to the full number of shots of each class by repeating
its own, and what is best on the folds is best for the final fit without a correction. (For a class with S shots of
which S' stay, this is the factor S/S' on alpha: exact in the mass of votes, exact key by key when S' divides S.)
A class with one shot keeps it and is never asked about.

The objective is held-out accuracy, to within half its standard error: the best of a thousand points on fifty images is
the luckiest, not the best. (On three sets of photographs this half is worth 1.5 points of accuracy to APE's grid of a
thousand, 0.3 to Tip-Adapter's of a hundred, nothing to smaller ones; a whole standard error is too much.) What counts
as equal is separated by the negative log-likelihood at the best temperature, which is the loss that remains after
calibration (a plain one would punish every large alpha for its scale alone), with the targets softened as in
`fewshot.calibration.temperature.fit_temperature` so that it has a best temperature at all; what is still equal goes to
the first point of the list, and methods list the most zero-shot-like points first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from fewshot.optimization.content_order import by_content, content_digests
from fewshot.problem import Labelled, Problem

FOLDS = 4
MAX_QUERIES = 2048
MAX_COSINES = 2**27
"""Queries times shots, over all folds: bounds memory and time when the support is huge."""
MAX_TIE_LOGITS = 2**17
"""Logits of a split that the tie-break looks at: it compares points that are equally accurate on all of them."""
MIN_QUERIES = 8
"""Below this, held-out accuracy is too coarse to choose by, and methods take their documented defaults."""
TIE_STANDARD_ERRORS = 0.5
"""Standard errors of the best accuracy within which points count as equally accurate."""
TEMPERATURES = tuple(2.0**power for power in range(-4, 11))
"""Where the tie-break looks for the best temperature."""

PointT = TypeVar("PointT", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Split:
    """A part of a problem to learn from, and labelled images that this part does not contain.

    Attributes:
        whole: the problem that was split.
        support_rows: [m] int64, rows of `whole.support` to learn from; a row may be repeated.
        queries: images to ask about; only their deterministic view counts.
    """

    whole: Problem
    support_rows: Tensor
    queries: Labelled

    @property
    def problem(self) -> Problem:
        """The part to learn from: the rows in `support_rows`, without `val`. Made at each access: it can be large."""
        return replace(self.whole, support=self.whole.support[self.support_rows], val=None)


def held_out_splits(problem: Problem, *, seed: int) -> list[Split]:
    """Splits to choose on: `problem.val` if there is one, else stratified folds of the shots.

    Depends on the set of shots and the seed, not on the order of the shots.

    Args:
        problem: what may be used.
        seed: draws the folds.

    Returns:
        No split when no class has two shots. All queries together are at most `MAX_QUERIES`.
    """
    limit = min(MAX_QUERIES, MAX_COSINES // max(1, len(problem.support)))
    if problem.val is not None and len(problem.val):
        everything = torch.arange(len(problem.support))
        return [Split(problem, everything, problem.val[_sample(problem.val, limit, seed=seed)])]
    digests = content_digests(problem.support, seed=seed)
    folds = _fold_numbers(problem.support.labels.tolist(), digests)
    asked = _sample(problem.support, limit, seed=seed)
    splits = []
    for fold in range(FOLDS):
        queries = asked[folds[asked] == fold]
        if len(queries):
            support_rows = _topped_up(problem.support.labels, folds != fold, digests)
            splits.append(Split(problem, support_rows, problem.support[queries]))
    return splits


def text_only_splits(problem: Problem, *, seed: int) -> list[Split]:
    """Splits for one shot a class: a fold of the images is taken away and their classes keep only their text.

    A query then competes with classes that still have their shot, so the accuracy measured is a lower bound of what
    the shots give, and is the truth for zero-shot.
    """
    M = len(problem.support)
    ranks = torch.empty(M, dtype=torch.int64)
    ranks[by_content(problem.support, seed=seed)] = torch.arange(M)
    folds, rows = ranks % FOLDS, torch.arange(M)
    asked = _sample(problem.support, MAX_QUERIES, seed=seed)
    by_fold = ((rows[folds != fold], asked[folds[asked] == fold]) for fold in range(FOLDS))
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
) -> PointT:
    """A point of a grid, from held-out images: the only one, or the best; or the default where too few can be held out.

    Args:
        points: the grid, the preferred points first.
        problem: what may be used.
        sweep: see `best_point`.
        default: the method's documented default, for fewer held-out images than `min_queries`.
        seed: draws the folds.
        folds: how many of them to use.
        min_queries: how many images it takes.
    """
    if len(points) == 1:
        return points[0]
    splits = selection_splits(problem, seed=seed, folds=folds, min_queries=min_queries)
    return best_point(points, splits, sweep) if splits else default(problem)


def selection_splits(problem: Problem, *, seed: int, folds: int = FOLDS, min_queries: int = MIN_QUERIES) -> list[Split]:
    """The first splits of `held_out_splits`; none of them where they ask about fewer images than `min_queries`."""
    splits = held_out_splits(problem, seed=seed)[:folds]
    return splits if sum(len(split.queries) for split in splits) >= min_queries else []


def best_point(
    points: Sequence[PointT],
    splits: Iterable[Split],
    sweep: Callable[[Split, Collection[PointT]], Iterator[tuple[PointT, Tensor]]],
) -> PointT:
    """The point of a grid with the best held-out accuracy (what counts as equal: see the module).

    Args:
        points: the grid, the preferred points first.
        splits: where to measure.
        sweep: yields each of the given points with the [Q, K] logits of a split's queries, in any order, so that a
            method can do its matrix product once a split and reuse it from point to point.

    Returns:
        One of `points`.
    """
    splits = list(splits)
    correct: dict[PointT, Tensor] = {point: torch.zeros((), dtype=torch.int64) for point in points}
    for split in splits:
        for point, logits in sweep(split, points):
            correct[point] = correct[point] + (logits.argmax(dim=1) == split.queries.labels).sum()
    queries = sum(len(split.queries) for split in splits)
    counts = [int(correct[point]) for point in points]
    enough = max(counts) - TIE_STANDARD_ERRORS * math.sqrt(max(counts) * (queries - max(counts)) / queries)
    tied = [point for point, count in zip(points, counts, strict=True) if count >= enough]
    if len(tied) == 1:
        return tied[0]
    losses = dict.fromkeys(tied, torch.zeros(len(TEMPERATURES), dtype=torch.float64))
    for split in splits:
        for point, logits in sweep(split, tied):
            losses[point] = losses[point] + _losses(logits, split.queries.labels)
    # Rounded, so that the order in which a sum was taken decides nothing.
    return min(tied, key=lambda point: round(float(losses[point].min()) / queries, 4))


def _losses(logits: Tensor, labels: Tensor) -> Tensor:
    """[len(TEMPERATURES)] float64: summed negative log-likelihood at each temperature, estimated on the first rows."""
    rows = slice(max(1, MAX_TIE_LOGITS // logits.shape[1]))
    share = 1.0 / (len(labels) + 2.0)
    own = logits[rows].gather(1, labels[rows, None]).squeeze(1)
    target = (1.0 - share) * own + share * logits[rows].mean(dim=1)
    inverse = 1.0 / logits.new_tensor(TEMPERATURES)
    losses = torch.logsumexp(logits[rows] * inverse[:, None, None], dim=2) - target * inverse[:, None]
    return losses.double().mean(dim=1).cpu() * len(labels)


def _fold_numbers(labels: list[int], digests: list[bytes]) -> Tensor:
    """[M] int64: the fold an image is asked in; -1 for the only image of its class, which never is."""
    folds = torch.full((len(labels),), -1, dtype=torch.int64)
    for rows in _rows_by_class(labels, digests).values():
        if len(rows) > 1:
            folds[rows] = torch.arange(len(rows)) % FOLDS
    return folds


def _topped_up(labels: Tensor, kept: Tensor, digests: list[bytes]) -> Tensor:
    """Rows of the kept images, those of a class repeated in turn until the class is as large as before."""
    support_rows: list[int] = []
    stays: list[bool] = kept.tolist()
    for rows in _rows_by_class(labels.tolist(), digests).values():
        left = [row for row in rows if stays[row]]
        support_rows += [left[turn % len(left)] for turn in range(len(rows))]
    return torch.tensor(support_rows, dtype=torch.int64)


def _rows_by_class(labels: list[int], digests: list[bytes]) -> dict[int, list[int]]:
    """The rows of each class that has any, in the order of content."""
    rows: dict[int, list[int]] = {}
    for row in sorted(range(len(labels)), key=digests.__getitem__):
        rows.setdefault(labels[row], []).append(row)
    return rows


def _sample(images: Labelled, limit: int, *, seed: int) -> Tensor:
    """At most `limit` rows in the order of content; independent of the folds, which use another seed."""
    return by_content(images, seed=seed + 1)[:limit]
