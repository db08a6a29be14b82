"""Queries of a round, cut into units.

A query is one row of a forward of the UNet: an image, a candidate class and a time-step. Units are named after their
queries, so that a resumed job finds the noise errors it computed before; how queries are cut changes no error.

With few classes, a worker keeps the adapters of all of them, and a unit has the queries of some parts of latents, each
of which is read once. With more classes than that, such units would need most of them, and read them again and again:
a unit has the queries of some classes then. What is read more than once are the latents, which are small (an image of
512 pixels takes 64 KiB, a class 10 MB); a worker keeps those of a block of images, and classes follow each other within
a block. Both are choices by the round alone, so that a resumed job cuts it like the first one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from cluster import Unit, fingerprint
from ray_jobs.escalation.score_unit import LatentRows, ScoreUnit
from ray_jobs.steps.diffusion_worker import ClassPrompt

if TYPE_CHECKING:
    from fewshot.diffusion.noise_errors import ErrorNorm

QUERIES_PER_UNIT = 2048
"""Queries of one unit, up to twice as many: fewer in a small round, so that there is work for many workers."""
UNITS_PER_ROUND = 64
CLASSES_IN_MEMORY = 256
"""Classes of a round whose adapters a worker is taken to keep: 2.7 GB with Stable Diffusion 2 and rank 16."""
FORWARDS_TO_MERGE = 8
"""Of a class, on average at least, where adapters are merged: the last one is half empty, which costs a sixteenth of
eight, and adapters that are not merged cost a tenth."""
FORWARDS_PER_UNIT = 8
"""Forwards of the UNet, on average at least, in a round with enough queries: the last of each unit is filled up."""


@dataclass(frozen=True, slots=True)
class ScoringPlan:
    """N images to score, each for at most C candidates, at n time-steps.

    Attributes:
        parts: P parts of latents.
        part: [N] int64 in [0, P), the part of each image.
        row: [N] int64, its row in the part.
        candidates: [N, C] int64 indices of `class_prompts`; -1 where an image has fewer.
        class_prompts: K classes.
        steps: [n] int64 time-steps, rising.
        seed: of the noise.
        unet_scale: of the UNet's adapters.
        norm: of the noise errors.
        batch_size: rows in a forward.
        images_in_memory: B, images whose latents a worker is taken to keep.
    """

    parts: tuple[str, ...]
    part: np.ndarray
    row: np.ndarray
    candidates: np.ndarray
    class_prompts: tuple[ClassPrompt, ...]
    steps: np.ndarray
    seed: int
    unet_scale: float
    batch_size: int
    images_in_memory: int = 8192
    norm: ErrorNorm = "l2"

    def query_units(
        self, folder: str, image: np.ndarray, column: np.ndarray, entry: np.ndarray, *, backwards: bool = False
    ) -> Iterator[tuple[Unit, np.ndarray]]:
        """Cut R queries into units.

        Args:
            folder: of the units' parts.
            image: [R] in [0, N).
            column: [R] in [0, C), the candidate.
            entry: [R] in [0, n), the time-step.
            backwards: begin with the last classes, which a worker has in memory after a round in the other direction.

        Yields:
            A unit, and the numbers of its queries among the R, in its order.
        """
        label = self.candidates[image, column]
        by_class = self._exceeds_memory(label)
        group = self._block(image) * len(self.class_prompts) + label if by_class else self.part[image]
        group = -group if by_class and backwards else group
        merged = self._worth_merging(group, label)
        by = (entry, image, label) if merged else (label, image, entry)
        order = np.lexsort((*by, group))
        size = self._unit_size(len(order))
        _, begin, of_group = np.unique(group[order], return_index=True, return_inverse=True)
        # Groups, which are parts or classes, share units: each is read once, unless it is a large one. Only where
        # adapters are merged, which is done for the queries of a part, has a part units of its own.
        together = of_group if merged and not by_class else (begin // size)[of_group]
        for rows_together in np.split(order, np.flatnonzero(np.diff(together)) + 1):
            for rows in np.split(rows_together, range(2 * size, len(rows_together), 2 * size)):
                if len(rows):
                    yield self._unit(folder, image[rows], label[rows], self.steps[entry[rows]], merged=merged), rows

    def _unit_size(self, num_queries: int) -> int:
        """Return a size that depends on the round alone, so that a resumed job cuts it like the first one."""
        by_round = min(math.ceil(num_queries / UNITS_PER_ROUND), QUERIES_PER_UNIT)
        return max(by_round, FORWARDS_PER_UNIT * self.batch_size)

    def _exceeds_memory(self, label: np.ndarray) -> bool:
        """Return whether the round has adapters of more classes than a worker keeps."""
        return self._have_adapters(label) and len(np.unique(label)) > CLASSES_IN_MEMORY

    def _have_adapters(self, label: np.ndarray) -> bool:
        return len(label) > 0 and self.class_prompts[label[0]].adapter is not None

    def _block(self, image: np.ndarray) -> np.ndarray:
        """[R] int64, the block of B images, in the order of their parts, that each query's image is in."""
        images, place = np.unique(image, return_inverse=True)
        position = np.lexsort((self.row[images], self.part[images])).argsort()
        block: np.ndarray = position[place] // self.images_in_memory
        return block

    def _worth_merging(self, group: np.ndarray, label: np.ndarray) -> bool:
        """Return whether a class has enough queries of a group, on average over the round, however it is cut."""
        from fewshot.diffusion.noise_errors import MIN_ROWS_TO_MERGE

        groups = len(np.unique(np.stack([group, label]), axis=1).T)
        enough = max(MIN_ROWS_TO_MERGE, FORWARDS_TO_MERGE * self.batch_size)
        return self._have_adapters(label) and len(label) >= enough * groups

    def _unit(self, folder: str, image: np.ndarray, label: np.ndarray, step: np.ndarray, *, merged: bool) -> Unit:
        classes, local = np.unique(label, return_inverse=True)
        images, place = np.unique(image, return_inverse=True)
        by_part = np.lexsort((self.row[images], self.part[images]))
        unit = ScoreUnit(
            latents=tuple(self._latent_rows(images[by_part])),
            classes=tuple(self.class_prompts[c] for c in classes),
            image=by_part.argsort()[place].astype(np.int32),
            label=local.astype(np.int32),
            step=step.astype(np.int32),
            seed=self.seed,
            unet_scale=self.unet_scale,
            merged=merged,
            norm=self.norm,
        )
        adapters = tuple(each.adapter for each in unit.classes if each.adapter is not None)
        return Unit(f"{folder}/part-{fingerprint(unit.identity())}.npy", unit, weight=len(image), needs=adapters)

    def _latent_rows(self, images: np.ndarray) -> Iterator[LatentRows]:
        """Yield the rows of images that are sorted by part."""
        for part, of_part in groupby(images, key=lambda image: int(self.part[image])):
            yield LatentRows(self.parts[part], tuple(int(self.row[image]) for image in of_part))
