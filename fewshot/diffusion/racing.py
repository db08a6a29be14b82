"""Races between classes: score in rounds, and drop a class once it will not win any more.

Errors of two classes at one time-step share the noise, so their difference varies far less than either. What has to be
predicted is how a sum of differences over a *finite* grid ends, of which some terms are known: the winner of a race is
the class that the whole grid would have chosen, not one of lower expected error. After m of n entries, with the
differences d_j of a class to the best one so far, each in units of a scale s_j that is known before, the sum over the
grid is predicted as

    sum of the known d_j + mean(d_j / s_j) * (sum of the s_j left),

with the variance v (sum of the s_j^2 left + (sum of the s_j left)^2 / m). For equal scales this is the paired t
statistic with the correction for a finite population. Choices, with what each was worth in forwards on the tables of a
small diffusion model (40 images, 16 classes, 100 steps) and on synthetic ones shaped after them (8 and 32 classes):

* v comes from squared differences of *neighbours* in time (von Neumann), as differences drift with time and the scored
  entries are spread evenly: a drift is no noise. 6 to 10 % fewer than with the ordinary variance.
* The variance of few differences is uncertain. It is shrunk to the mean over the class's rivals, worth at most
  `SHARED_DEGREES` degrees of freedom and none where there are no others, and the quantile is Student's. As many
  forwards, fewer mistakes.
* The error rate is a budget of each image. Dropping a class costs the probability that it would still have won, summed
  over classes (a union bound); a look drops the surest and spends at most a tenth of what is left. Clear losers cost
  nothing, so nearly all of it is there for the last rivals.
* Looks grow by half. Doubling them takes 15 to 20 % more, a growth of a quarter 10 % less.

The rate is a bound in practice, not a theorem. Where classes differ, at the default of 5 %, 99 % or more of the
decisions are those of the whole grid, as most images are decided by far more than the rate requires; with a measured
`scale` 98 % or more, for 15 % fewer forwards, and nearly all others chose a class whose summed error is within 0.1 % of
the smallest. Where all classes are equal and the whole grid's choice is luck, up to 3 % differ on a grid of 60, but on
one of 500 up to 6 % of 10 classes and 8 % of 32 (5 % stated): the best so far is the luckiest of many. `tolerance`
leaves such ties alone.

Weights may be given for the whole grid; they multiply errors and scales, so that steps are scored in proportion to
their weight. The alternative, a grid of fewer steps at equal mass of the weights (`time_grid.support_grid`) raced
without weights, costs the same at a like resolution (8 classes: 200 such steps against weights on all 500), and bounds
the cost of a hard image; but its decision is that of the coarser grid. So: weights, to reproduce the published
decision; the short grid, where cost matters more than which of two close classes it is.

All images advance together, one look a round, and none depends on another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import torch
from scipy.special import stdtr
from torch import Tensor

from fewshot.diffusion.time_grid import spread_order
from fewshot.errors import DataError

FIRST_LOOK, GROWTH = 8, 1.5
ERROR_RATE = 0.05
MAX_SPENT_SHARE = 0.1
"""Share of what is left of the budget that one look may spend, at most."""
SHARED_DEGREES = 4.0
"""Degrees of freedom that the variance of the rivals counts as, at most."""
MIN_SCALE = 0.05
"""Share of the largest scale, at least: a step that was expected to separate no classes may separate some."""
ROUNDING = 1e-6
"""Share of an error: differences are not taken to be more regular than float32 is precise."""


@dataclass(frozen=True, slots=True)
class RacePlan:
    """The order in which entries of the grid are scored, and the looks that drop classes. See `make_race_plan`.

    Attributes:
        order: [m] int64, the entries of the grid that weigh anything, in the order in which they are scored.
        weights: [n] float64, >= 0, of all entries of the grid.
        scale: [n] float64, how much classes are expected to differ at each entry, weights included; > 0 in `order`.
        looks: number of entries scored by each look, rising; the last is m.
        error_rate: probability, for an image, that the whole grid would have chosen a class that was dropped.
        tolerance: a class that would have won by less than this share of the summed error counts as no error.
    """

    order: Tensor
    weights: Tensor
    scale: Tensor
    looks: tuple[int, ...]
    error_rate: float
    tolerance: float


@dataclass(frozen=True, slots=True)
class Race:
    """The state of the races of N images.

    Attributes:
        errors: [N, K, n] float32, by entry of the grid; 0 where not scored.
        scored: [N, K] int64, number of entries scored, from the beginning of the order.
        alive: [N, K] bool, classes that may still win.
        budget: [N] float64, probability of an error that may still be spent.
        look: number of looks so far.
    """

    errors: Tensor
    scored: Tensor
    alive: Tensor
    budget: Tensor
    look: int

    @property
    def running(self) -> Tensor:
        """[N] bool: two classes or more are left."""
        return self.alive.sum(dim=1) > 1

    @property
    def labels(self) -> Tensor:
        """[N] int64 in [0, K): the winner; before the end, the first class that is left."""
        return self.alive.to(torch.uint8).argmax(dim=1)

    @property
    def forwards(self) -> Tensor:
        """[N] int64, queries scored so far."""
        return self.scored.sum(dim=1)


class RaceQueries(NamedTuple):
    """R queries, ordered by image, then class, then entry.

    Attributes:
        image: [R] int64 in [0, N).
        label: [R] int64 in [0, K).
        entry: [R] int64 in [0, n), of the grid.
    """

    image: Tensor
    label: Tensor
    entry: Tensor


def make_race_plan(
    n: int,
    *,
    weights: Tensor | None = None,
    scale: Tensor | None = None,
    first: int = FIRST_LOOK,
    growth: float = GROWTH,
    error_rate: float = ERROR_RATE,
    tolerance: float = 0.0,
) -> RacePlan:
    """Plan races over a grid of n entries.

    Args:
        n: entries of the grid, of any spacing in time, rising.
        weights: [n] float, >= 0, not all 0; entries of weight 0 are never scored. None weighs all the same.
        scale: [n] float, >= 0, from `difference_scale`; None takes classes to differ the same at each entry. Wrong
            scales cost forwards, right ones save 15 %.
        first: entries scored by the first look, at least 4.
        growth: of the number of entries from look to look, > 1.
        error_rate: in [0, 1); 0 is exhaustive.
        tolerance: >= 0; 0 counts every other label as an error.

    Raises:
        DataError: a number is out of its range.
    """
    if first < 4 or growth <= 1.0 or not 0.0 <= error_rate < 1.0 or tolerance < 0.0:
        raise DataError(
            f"got first={first}, growth={growth}, error_rate={error_rate}, tolerance={tolerance}; expected at least 4 "
            "entries in the first look, growth above 1, an error rate in [0, 1) and no negative tolerance"
        )
    weight = torch.ones(n, dtype=torch.float64) if weights is None else weights.double()
    expected = weight if scale is None else weight * scale.double().clamp(min=MIN_SCALE * float(scale.max()))
    kept = (weight > 0).nonzero().squeeze(1)
    order = kept[spread_order(expected[kept])]
    return RacePlan(order, weight, expected, _looks(len(order), first, growth), error_rate, tolerance)


def difference_scale(errors: Tensor) -> Tensor:
    """Measure how much classes differ at each entry of the grid.

    Args:
        errors: [N, K, n] float, K >= 2, of a few images that were scored completely.

    Returns:
        [n] float64: root mean square around the mean over classes, averaged over a twentieth of the grid.
    """
    own = errors.double()
    spread = (own - own.mean(dim=1, keepdim=True)).square().mean(dim=(0, 1)).sqrt()
    reach = len(spread) // 40
    padded = torch.nn.functional.pad(spread[None], (reach, reach), mode="replicate")[0]
    return padded.unfold(0, 2 * reach + 1, 1).mean(dim=1)


def start_race(plan: RacePlan, candidates: Tensor) -> Race:
    """Return the state before the first look.

    Args:
        plan: from `make_race_plan`.
        candidates: [N, K] bool, classes that take part, one or more of each image.
    """
    N, K = candidates.shape
    return Race(
        errors=torch.zeros(N, K, len(plan.weights)),
        scored=torch.zeros(N, K, dtype=torch.int64),
        alive=candidates,
        budget=torch.full((N,), plan.error_rate, dtype=torch.float64),
        look=0,
    )


def next_queries(plan: RacePlan, race: Race) -> RaceQueries:
    """Return the queries of the next look; none once every image is decided."""
    new = _new_entries(plan, race)
    image, label = (race.alive & race.running[:, None]).nonzero().unbind(dim=1)
    R = len(image)
    return RaceQueries(image.repeat_interleave(len(new)), label.repeat_interleave(len(new)), new.repeat(R))


def advance(plan: RacePlan, race: Race, query_errors: Tensor) -> Race:
    """Return the state after one more look: with the errors of its queries, without the classes that are beaten.

    Args:
        plan: of the race.
        race: the state before; it is not changed.
        query_errors: [R] float32, in the order of `next_queries`.
    """
    scored_now = race.alive & race.running[:, None]
    if not scored_now.any():
        return race
    new = _new_entries(plan, race)
    errors = race.errors.clone()
    image, label = scored_now.nonzero().unbind(dim=1)
    errors[image[:, None], label[:, None], new] = query_errors.view(-1, len(new)).to(errors)
    m = plan.looks[race.look]
    updated = replace(race, errors=errors, scored=race.scored.masked_fill(scored_now, m), look=race.look + 1)
    return _finish(plan, updated) if m == len(plan.order) else _drop(plan, updated)


def _drop(plan: RacePlan, race: Race) -> Race:
    """Drop the classes that are surely enough beaten."""
    rows = race.running.nonzero().squeeze(1)
    alive = race.alive[rows]
    chances = _win_probabilities(plan, race.errors[rows], alive, m=plan.looks[race.look - 1])
    ascending, by_chance = chances.sort(dim=1, stable=True)
    # The best one has probability 1 and is never dropped, as a budget is below 1; nor is anything for a budget of 0.
    cheap = ascending.cumsum(dim=1) < MAX_SPENT_SHARE * race.budget[rows, None]
    dropped = torch.zeros_like(alive).scatter(1, by_chance, cheap) & alive
    spent = chances.masked_fill(~dropped, 0.0).sum(dim=1)
    return replace(
        race,
        alive=race.alive.index_copy(0, rows, alive & ~dropped),
        budget=race.budget.index_copy(0, rows, race.budget[rows] - spent),
    )


def _finish(plan: RacePlan, race: Race) -> Race:
    """Decide between the classes left, all scored completely: the smallest sum wins; of equal ones, the lowest."""
    sums = (race.errors.double() * plan.weights).sum(dim=2).masked_fill(~race.alive, math.inf)
    winner = torch.nn.functional.one_hot(sums.argmin(dim=1), race.alive.shape[1]).bool()
    return replace(race, alive=torch.where(race.running[:, None], winner, race.alive))


def _win_probabilities(plan: RacePlan, errors: Tensor, alive: Tensor, *, m: int) -> Tensor:
    """[B, K] float64: probability that a class ends before the best so far; 0 for classes not alive, 1 for the best."""
    entries = plan.order[:m].sort().values
    scale, left = plan.scale[entries], plan.scale[plan.order[m:]]
    known = errors[:, :, entries].double() * plan.weights[entries]
    in_units = known / scale
    predicted = (known.sum(dim=2) + in_units.mean(dim=2) * left.sum()).masked_fill(~alive, math.inf)
    ahead, best = predicted.min(dim=1, keepdim=True)
    differences = in_units - in_units.gather(1, best[..., None].expand(-1, -1, m))
    rivals = alive.scatter(1, best, False)
    floor = (ROUNDING * in_units.gather(1, best[..., None].expand(-1, -1, m)).mean(dim=2)).square()
    variance, degrees = _variance(differences, rivals, floor)
    behind = (predicted - ahead).masked_fill(~rivals, 0.0) + plan.tolerance * ahead
    units = behind / (variance * (left.square().sum() + left.sum().square() / m)).sqrt()
    chances = torch.from_numpy(stdtr(degrees.numpy(), -units.numpy()))
    return chances.masked_fill(~alive, 0.0).scatter(1, best, 1.0)


def _variance(differences: Tensor, rivals: Tensor, floor: Tensor) -> tuple[Tensor, Tensor]:
    """Estimate the variance of one difference, from neighbours in time and from the other rivals.

    Args:
        differences: [B, K, m] float64, by time.
        rivals: [B, K] bool, one or more in each row.
        floor: [B, 1] float64, > 0: the smallest value it may have.

    Returns:
        The variance [B, K] float64 and its degrees of freedom [B, 1].
    """
    m = differences.shape[2]
    own = differences.diff(dim=2).square().mean(dim=2) / 2.0
    degrees = 2.0 * (m - 1) ** 2 / (3 * m - 4)  # Of this estimator, for independent normal differences.
    count = rivals.sum(dim=1, keepdim=True)
    shared = own.masked_fill(~rivals, 0.0).sum(dim=1, keepdim=True) / count
    borrowed = (degrees * (count - 1)).clamp(max=SHARED_DEGREES)
    variance = (degrees * own + borrowed * shared) / (degrees + borrowed)
    return variance.clamp(min=floor), degrees + borrowed


def _new_entries(plan: RacePlan, race: Race) -> Tensor:
    """[r] int64: the entries of the next look, rising; none after the last."""
    edges = dict(enumerate(pairwise((0, *plan.looks))))
    before, after = edges.get(race.look, (0, 0))
    return plan.order[before:after].sort().values


def _looks(m: int, first: int, growth: float) -> tuple[int, ...]:
    looks = [min(first, m)]
    while looks[-1] < m:
        looks.append(min(m, math.ceil(looks[-1] * growth)))
    return tuple(looks)
