"""Problems whose class is one attribute while another one is prominent, tied to the class in the support or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fewshot.demo.scenes import NO_BADGE, Glyphs, Scenes, draw_scenes, with_colour

CLASSES, SHOTS, TESTS = 8, 4, 9
"""Classes of a problem, examples of a class, test pictures of a class."""

Task = Literal["emoji", "badge"]
TASKS: tuple[Task, ...] = ("emoji", "badge")


@dataclass(frozen=True, slots=True)
class Pictures:
    """Labelled scenes.

    Attributes:
        scenes: N of them.
        labels: [N] int64 in [0, CLASSES).
        prominent: [N] int64 in [0, CLASSES): the class whose prominent attribute a picture has, by the tie of the
            support.
    """

    scenes: Scenes
    labels: Tensor
    prominent: Tensor


@dataclass(frozen=True, slots=True)
class Setting:
    """One problem.

    Attributes:
        task: "emoji": the class is the large emoji, the prominent attribute the background's colour. "badge": the class
            is the small emoji in front, the prominent attribute the large one.
        tied: whether the prominent attribute is tied to the class in the support. In the test set it never is.
        seed: of classes and pictures.
    """

    task: Task
    tied: bool
    seed: int

    @property
    def name(self) -> str:
        """The name for files and tables."""
        return f"{self.task}-{'tied' if self.tied else 'free'}-{self.seed}"

    def classes(self, glyphs: Glyphs) -> Tensor:
        """Draw the classes, [CLASSES] int64: emoji kept from the diffusion model's training; the same tied or not."""
        return self._draw(torch.tensor(glyphs.held_out), stream=0)

    def support(self, glyphs: Glyphs) -> Pictures:
        """Draw SHOTS pictures of each class."""
        return self._pictures(glyphs, SHOTS, stream=2, tied=self.tied)

    def test(self, glyphs: Glyphs) -> Pictures:
        """Draw TESTS pictures of each class, with random prominent attributes; the same whether the support is tied."""
        return self._pictures(glyphs, TESTS, stream=3, tied=False)

    def _pictures(self, glyphs: Glyphs, count: int, *, stream: int, tied: bool) -> Pictures:
        generator = self._generator(stream)
        labels = torch.arange(CLASSES).repeat_interleave(count)
        shuffled = torch.randint(CLASSES, (len(labels),), generator=generator)
        prominent = labels if tied else shuffled
        own = self.classes(glyphs)[labels]
        if self.task == "emoji":
            scenes = draw_scenes(own, generator=generator, badge=torch.full_like(own, NO_BADGE))
            return Pictures(with_colour(scenes, prominent), labels, prominent)
        hosts = self._draw(torch.tensor(glyphs.shown), stream=1)
        return Pictures(draw_scenes(hosts[prominent], generator=generator, badge=own), labels, prominent)

    def _draw(self, emoji: Tensor, *, stream: int) -> Tensor:
        return emoji[torch.randperm(len(emoji), generator=self._generator(stream))[:CLASSES]]

    def _generator(self, stream: int) -> torch.Generator:
        return torch.Generator().manual_seed(1000 * self.seed + 10 * TASKS.index(self.task) + stream)
