"""Deciding in rounds: a round's questions are units, its answers are reduced here, what is beaten is not asked again.

A round's units are named after their questions. What was asked before is found, so a resumed job replays the decisions
from the parts and goes on where it stopped; and how questions are cut into units changes no answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, groupby
from typing import TYPE_CHECKING

import numpy as np

from cluster import Unit, fingerprint
from ray_jobs.escalation.score_unit import Excerpt, ScoreUnit
from ray_jobs.job_file.sections import ScheduleName
from ray_jobs.steps.diffusion_worker import ClassPrompt

if TYPE_CHECKING:
    from torch import Tensor

ROWS_A_UNIT = 2048
"""Questions of one unit, up to twice as many: fewer in a small round, so that there is work for many workers."""
UNITS_A_ROUND = 64
FORWARDS_A_UNIT = 8
"""Of the UNet, on average at least, where there are so many questions: the last of each is filled up."""


@dataclass(frozen=True, slots=True)
class RoundState:
    """N images, each with at most C candidates.

    Attributes:
        parts: P parts of latents.
        part: [N] which of them an image is in.
        row: [N] where in it.
        candidates: [N, C] index of a class in `told`; -1 where an image has fewer.
        class_prompt: who stands for a class.
        steps: [n] time-steps that may be asked about, rising.
        seed: of the noise.
        scale: of the UNet's adapters.
        batch_size: rows of a forward.
    """

    parts: tuple[str, ...]
    part: np.ndarray
    row: np.ndarray
    candidates: np.ndarray
    class_prompt: tuple[ClassPrompt, ...]
    steps: np.ndarray
    seed: int
    scale: float
    batch_size: int

    def units(
        self, folder: str, image: np.ndarray, column: np.ndarray, entry: np.ndarray
    ) -> Iterator[tuple[Unit, np.ndarray]]:
        """The units that answer some questions.

        Args:
            folder: where their parts go.
            image: [R] in [0, N).
            column: [R] in [0, C), which candidate.
            entry: [R] in [0, n), which time-step.

        Yields:
            a unit, and which of the R questions it answers, in its order.
        """
        label = self.candidates[image, column]
        merged = self._worth_merging(self.part[image], label)
        by = (entry, image, label) if merged else (label, image, entry)
        order = np.lexsort((*by, self.part[image]))
        size = self._rows_a_unit(len(order))
        _, begin, of_part = np.unique(self.part[image[order]], return_index=True, return_inverse=True)
        # Adapters are merged for the questions about a part. Others share forwards, from whichever parts they are; a
        # part is read once, unless it is a large one.
        together = of_part if merged else (begin // size)[of_part]
        for rows_together in np.split(order, np.flatnonzero(np.diff(together)) + 1):
            for rows in np.split(rows_together, range(2 * size, len(rows_together), 2 * size)):
                if len(rows):
                    yield self._unit(folder, image[rows], label[rows], self.steps[entry[rows]], merged=merged), rows

    def _rows_a_unit(self, questions: int) -> int:
        """It depends on the round alone: a resumed job cuts as the first one did, with however many workers."""
        return max(min(math.ceil(questions / UNITS_A_ROUND), ROWS_A_UNIT), FORWARDS_A_UNIT * self.batch_size)

    def _worth_merging(self, part: np.ndarray, label: np.ndarray) -> bool:
        """Whether a class has enough questions about a part, on average over the round: how it is cut plays no part."""
        from fewshot.diffusion.noise_errors import MIN_ROWS_TO_MERGE

        groups = len(np.unique(np.stack([part, label]), axis=1).T)
        enough = groups > 0 and len(label) >= MIN_ROWS_TO_MERGE * groups
        return enough and self.class_prompt[label[0]].adapter is not None

    def _unit(self, folder: str, image: np.ndarray, label: np.ndarray, step: np.ndarray, *, merged: bool) -> Unit:
        classes, local = np.unique(label, return_inverse=True)
        images, place = np.unique(image, return_inverse=True)
        by_part = np.lexsort((self.row[images], self.part[images]))
        unit = ScoreUnit(
            latents=tuple(self._excerpts(images[by_part])),
            classes=tuple(self.class_prompt[c] for c in classes),
            image=by_part.argsort()[place].astype(np.int32),
            label=local.astype(np.int32),
            step=step.astype(np.int32),
            seed=self.seed,
            scale=self.scale,
            merged=merged,
        )
        asked = [array.tolist() for array in (unit.image, unit.label, unit.step)]
        class_prompt = [[t.prompt, t.adapter, t.text_scale] for t in unit.classes]
        latents = [[excerpt.path, excerpt.rows] for excerpt in unit.latents]
        name = fingerprint([latents, class_prompt, asked, unit.seed, unit.scale, unit.merged])
        return Unit(f"{folder}/part-{name}.npy", unit, weight=len(image))

    def _excerpts(self, images: np.ndarray) -> Iterator[Excerpt]:
        """Where images are that come part after part."""
        for part, there in groupby(images, key=lambda image: int(self.part[image])):
            yield Excerpt(self.parts[part], tuple(int(self.row[image]) for image in there))


Ask = Callable[[int, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Number of the round, and image, candidate and entry of R questions -> [R] float32 errors."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How a contest ended.

    Attributes:
        winner: [N] which candidate won.
        errors: [N, C, n] float32; 0 where nothing was asked.
        asked: [N, C, n] bool.
    """

    winner: Tensor
    errors: Tensor
    asked: Tensor

    @property
    def forwards(self) -> int:
        """Questions asked."""
        return int(self.asked.sum())

    @property
    def means(self) -> Tensor:
        """[N, C] float64: mean error over what was asked."""
        import torch

        counts = self.asked.sum(dim=2)
        return torch.where(self.asked, self.errors.double(), 0.0).sum(dim=2) / counts.clamp(min=1)

    @property
    def ranking(self) -> Tensor:
        """[N, C] candidates: the winner, then those that were asked longest, of equals the smaller mean error."""
        counts, means = self.asked.sum(dim=2).double(), self.means
        rank = means - counts * (1.0 + means.max() if means.numel() else 1.0)
        return rank.scatter(1, self.winner[:, None], float("-inf")).argsort(dim=1, stable=True)

    @property
    def gaps(self) -> Tensor:
        """[N, C] float64: how much worse each explains the image than the winner, see `relative_gaps`."""
        from fewshot.diffusion.error_gaps import relative_gaps

        return relative_gaps(self.errors, self.asked, self.winner)

    @property
    def margins(self) -> Tensor:
        """[N] float64, >= 0: by how much the runner-up's error is larger than the winner's, as a share of it."""
        second = self.ranking[:, min(1, self.ranking.shape[1] - 1)]
        return self.gaps.gather(1, second[:, None]).squeeze(1).clamp(min=0.0)


def decide(schedule: ScheduleName, present: Tensor, n: int, ask: Ask, *, error_rate: float) -> Decision:
    """Run a contest to its end.

    Args:
        schedule: see `EscalateSection`.
        present: [N, C] bool, which candidates an image has; one or more each.
        n: time-steps of the grid.
        ask: answers questions.
        error_rate: of racing.
    """
    if schedule == "published":
        return _staged(present, n, ask)
    return _raced(present, n, ask, error_rate=error_rate if schedule == "racing" else 0.0)


def _raced(present: Tensor, n: int, ask: Ask, *, error_rate: float) -> Decision:
    """Exhaustive is a race whose only look is the last."""
    import torch

    from fewshot.diffusion import racing

    race_plan = racing.make_race_plan(n, error_rate=error_rate, first=racing.FIRST_LOOK if error_rate else n)
    race = racing.start_race(race_plan, present)
    while len((asked := racing.next_queries(race_plan, race)).image):
        answers = ask(race.look, *(part.numpy() for part in asked))
        race = racing.advance(race_plan, race, torch.from_numpy(answers))
    entries = torch.zeros(n, dtype=torch.int64).index_put((race_plan.order,), torch.arange(len(race_plan.order)))
    return Decision(race.labels, race.errors, entries < race.scored[..., None])


def _staged(present: Tensor, n: int, ask: Ask) -> Decision:
    """The published stages of the data set with the nearest number of classes, scaled to ours.

    Candidates that an image does not have answer with an infinite error, and one that is alone is not asked.
    """
    import torch

    from fewshot.diffusion.elimination import PUBLISHED, eliminate, plan_rounds, scale_schedule

    N, C = present.shape
    nearest = min(PUBLISHED, key=lambda name: abs(PUBLISHED[name][0] - C))
    errors, asked = torch.zeros(N, C, n), torch.zeros(N, C, n, dtype=torch.bool)
    number = count()

    def answer(classes: Tensor, entries: Tensor) -> Tensor:
        there, m = present.gather(1, classes), len(entries)
        image, place = (there & (there.sum(dim=1, keepdim=True) > 1)).nonzero().unbind(dim=1)
        column, round_ = classes[image, place], next(number)
        if m and len(image):
            rows = (image.repeat_interleave(m), column.repeat_interleave(m), entries.repeat(len(image)))
            answers = ask(round_, *(part.numpy() for part in rows))
            errors[image[:, None], column[:, None], entries] = torch.from_numpy(answers).view(-1, m)
            asked[image[:, None], column[:, None], entries] = True
        class_prompt = errors.gather(1, classes[..., None].expand(-1, -1, n))[..., entries]
        return class_prompt.masked_fill(~there[..., None], torch.inf)

    plan = plan_rounds(scale_schedule(nearest, num_classes=C, steps=n), C)
    return Decision(eliminate(answer, plan, images=N), errors, asked)
