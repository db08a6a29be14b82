"""Scoring in rounds: a round's queries are units, the driver reduces their noise errors and drops candidates.

What was scored before is found, so a resumed job repeats the decisions from the parts and continues from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from ray_jobs.job_file.sections import ScheduleName

if TYPE_CHECKING:
    from torch import Tensor

    from fewshot.diffusion.elimination import EliminationRound

ScoreQueries = Callable[[int, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Number of the round, and image, candidate and entry of R queries -> [R] float32 noise errors."""


@dataclass(frozen=True, slots=True)
class ScoredCandidates:
    """The noise errors of the candidates of N images, and the candidates that won by them.

    Attributes:
        winner: [N] int64 in [0, C).
        errors: [N, C, n] float32; 0 where not scored.
        scored: [N, C, n] bool.
        weights: [n] float64, of the time-steps; those of weight 0 are never scored.
    """

    winner: Tensor
    errors: Tensor
    scored: Tensor
    weights: Tensor

    @property
    def forwards(self) -> int:
        """Number of queries: rows of forwards of the UNet."""
        return int(self.scored.sum())

    @property
    def weighted_errors(self) -> Tensor:
        """[N, C, n] float64: errors times weights, whose sum decides."""
        return self.errors.double() * self.weights

    @property
    def means(self) -> Tensor:
        """[N, C] float64: mean weighted error over the scored time-steps."""
        import torch

        counts = self.scored.sum(dim=2)
        return torch.where(self.scored, self.weighted_errors, 0.0).sum(dim=2) / counts.clamp(min=1)

    @property
    def ranking(self) -> Tensor:
        """[N, C] int64: the winner, then the candidates scored at most time-steps; of equals the smaller mean error."""
        counts, means = self.scored.sum(dim=2).double(), self.means
        rank = means - counts * (1.0 + means.max() if means.numel() else 1.0)
        return rank.scatter(1, self.winner[:, None], float("-inf")).argsort(dim=1, stable=True)

    @property
    def gaps(self) -> Tensor:
        """[N, C] float64: how much larger each candidate's error is than the winner's, see `relative_gaps`."""
        from fewshot.diffusion.error_gaps import relative_gaps

        return relative_gaps(self.weighted_errors, self.scored, self.winner)

    @property
    def margins(self) -> Tensor:
        """[N] float64, >= 0: by how much the runner-up's error is larger than the winner's, as a share of it."""
        second = self.ranking[:, min(1, self.ranking.shape[1] - 1)]
        return self.gaps.gather(1, second[:, None]).squeeze(1).clamp(min=0.0)


def score_candidates(
    schedule: ScheduleName, present: Tensor, weights: Tensor, score: ScoreQueries, *, error_rate: float
) -> ScoredCandidates:
    """Score candidates in rounds until every image has a winner.

    Args:
        schedule: see `EscalateSection`.
        present: [N, C] bool, the candidates of each image; one or more each.
        weights: [n] float64, >= 0, not all 0, of the entries of the time grid.
        score: computes noise errors.
        error_rate: of racing, in (0, 1).
    """
    if schedule == "published":
        return _eliminate_in_stages(present, weights, score)
    return _race(present, weights, score, error_rate=error_rate if schedule == "racing" else 0.0)


def _race(present: Tensor, weights: Tensor, score: ScoreQueries, *, error_rate: float) -> ScoredCandidates:
    """Race the candidates. The exhaustive schedule is a race whose first look is the last."""
    import torch

    from fewshot.diffusion import racing

    n = len(weights)
    race_plan = racing.make_race_plan(
        n, weights=weights, error_rate=error_rate, first=racing.FIRST_LOOK if error_rate else n
    )
    race = racing.start_race(race_plan, present)
    while len((queries := racing.next_queries(race_plan, race)).image):
        errors = score(race.look, *(part.numpy() for part in queries))
        race = racing.advance(race_plan, race, torch.from_numpy(errors))
    entries = torch.full((n,), n).index_put((race_plan.order,), torch.arange(len(race_plan.order)))
    return ScoredCandidates(race.labels, race.errors, entries < race.scored[..., None], weights)


def _from_first_scored(plan: Sequence[EliminationRound]) -> list[EliminationRound]:
    """Return the rounds without those before the first time-step with a weight: they would drop classes by number."""
    first = next(number for number, each in enumerate(plan) if len(each.entries))
    return [replace(plan[first], classes=plan[0].classes), *plan[first + 1 :]]


def _eliminate_in_stages(present: Tensor, weights: Tensor, score: ScoreQueries) -> ScoredCandidates:
    """Follow the published stages of the data set with the nearest number of classes, scaled to C and n.

    Missing candidates have an infinite error, and a candidate without rivals is not scored.
    """
    import torch

    from fewshot.diffusion.elimination import PUBLISHED, eliminate, plan_rounds, scale_schedule

    (N, C), n = present.shape, len(weights)
    nearest = min(PUBLISHED, key=lambda name: abs(PUBLISHED[name][0] - C))
    errors, scored = torch.zeros(N, C, n), torch.zeros(N, C, n, dtype=torch.bool)
    round_numbers = count()

    def errors_of(classes: Tensor, entries: Tensor) -> Tensor:
        there, m = present.gather(1, classes), len(entries)
        image, place = (there & (there.sum(dim=1, keepdim=True) > 1)).nonzero().unbind(dim=1)
        column, number = classes[image, place], next(round_numbers)
        if m and len(image):
            rows = (image.repeat_interleave(m), column.repeat_interleave(m), entries.repeat(len(image)))
            found = score(number, *(part.numpy() for part in rows))
            errors[image[:, None], column[:, None], entries] = torch.from_numpy(found).view(-1, m)
            scored[image[:, None], column[:, None], entries] = True
        known = errors.gather(1, classes[..., None].expand(-1, -1, n))[..., entries]
        return known.masked_fill(~there[..., None], torch.inf)

    plan = _from_first_scored(plan_rounds(scale_schedule(nearest, num_classes=C, steps=n), C, weights=weights))
    return ScoredCandidates(eliminate(errors_of, plan, images=N, weights=weights), errors, scored, weights)
