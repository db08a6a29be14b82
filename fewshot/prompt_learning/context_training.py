"""How a context is learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fewshot.backbones.text_tower import Position
from fewshot.optimization.descent import Loss, descend
from fewshot.prompt_learning.learning_rate import OptimizerName, make_optimizer, make_rate

if TYPE_CHECKING:
    from fewshot.backbones.text_tower import TextTower

INITIAL_STD = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextTrainingSettings:
    """How a context is learned.

    Attributes:
        context: M, how many vectors, where they start at random; >= 1.
        words: a phrase whose token embeddings the vectors start with, as many as it has tokens; "" starts at random.
        position: of the name, see `fewshot.backbones.text_tower.Position`.
        class_specific: a context for each class, instead of one for all.
        steps: of gradient descent, >= 0.
        learning_rate: the peak, > 0.
        optimizer: see `fewshot.prompt_learning.learning_rate`.
        batch_size: images in a step, at most.
        classes: told apart in a step, at most (a softmax over a sample of the classes where there are more).
    """

    context: int
    words: str
    position: Position
    class_specific: bool
    steps: int
    learning_rate: float
    optimizer: OptimizerName
    batch_size: int
    classes: int

    def start(self, tower: TextTower, *, seed: int) -> Tensor:
        """[M, w] float32: the context before the first step."""
        if self.words:
            return tower.words(self.words).cpu()
        generator = torch.Generator().manual_seed(seed)
        return INITIAL_STD * torch.randn(self.context, tower.width, generator=generator)

    def descend(self, start: Mapping[str, Tensor], loss: Loss, *, images: int, seed: int) -> dict[str, Tensor]:
        """`fewshot.optimization.descent.descend` as the recipe says, over so many images."""
        steps_an_epoch = -(-images // self.batch_size)
        return descend(
            start,
            loss,
            optimizer=make_optimizer(self.optimizer, self.learning_rate),
            rows=images,
            batch_size=self.batch_size,
            steps=self.steps,
            seed=seed,
            rate=make_rate(self.optimizer, steps=self.steps, steps_an_epoch=steps_an_epoch),
        )


def sampled_classes(labels: Tensor, *, num_classes: int, count: int, generator: torch.Generator) -> Tensor:
    """The classes that a step tells apart.

    Args:
        labels: [b] int64 in [0, num_classes), of the images in the step.
        num_classes: k.
        count: how many, >= 2.
        generator: draws them.

    Returns:
        [min(k, count)] int64, ascending and distinct: all where they are few enough, else as many of the images' own
        classes as there is room for, and others.
    """
    if num_classes <= count:
        return torch.arange(num_classes)
    order = torch.rand(num_classes, generator=generator)
    order[labels] += 1.0
    return order.topk(count).indices.sort().values
