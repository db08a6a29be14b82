"""Settings and steps that the trainings of CoOp and CoCoOp share."""

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
"""Standard deviation of a random initial context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextTrainingSettings:
    """Settings of the training of a context.

    Attributes:
        context: number of vectors M where they start at random, >= 1.
        words: a phrase whose token embeddings the vectors start with, as many as it has tokens; "" starts at random.
        position: where the name stands, see `fewshot.backbones.text_tower.Position`.
        class_specific: a context for each class, instead of one for all.
        steps: steps of gradient descent, >= 0.
        learning_rate: peak learning rate, > 0.
        optimizer: "adam", or "sgd" with the published schedule, see `fewshot.prompt_learning.learning_rate`.
        batch_size: images in a step, at most.
        classes: number of classes in a step, at most (a softmax over a sample of the classes where there are more).
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
        """Return the initial context, [M, w] float32."""
        if self.words:
            return tower.embed_phrase(self.words).cpu()
        generator = torch.Generator().manual_seed(seed)
        return INITIAL_STD * torch.randn(self.context, tower.width, generator=generator)

    def descend(self, start: Mapping[str, Tensor], loss: Loss, *, images: int, seed: int) -> dict[str, Tensor]:
        """Run `fewshot.optimization.descent.descend` over a number of images with these settings."""
        steps_per_epoch = -(-images // self.batch_size)
        return descend(
            start,
            loss,
            optimizer=make_optimizer(self.optimizer, self.learning_rate),
            rows=images,
            batch_size=self.batch_size,
            steps=self.steps,
            seed=seed,
            rate=make_rate(self.optimizer, steps=self.steps, steps_per_epoch=steps_per_epoch),
        )


def sampled_classes(labels: Tensor, *, num_classes: int, count: int, generator: torch.Generator) -> Tensor:
    """Sample the classes in the softmax of a step.

    Args:
        labels: [b] int64 in [0, num_classes), of the images in the step.
        num_classes: k.
        count: maximum number of classes, >= 2.
        generator: source of the random numbers.

    Returns:
        [min(k, count)] int64, ascending and distinct: all classes if there are at most `count`, else as many of the
        classes of the images as possible, then others.
    """
    if num_classes <= count:
        return torch.arange(num_classes)
    order = torch.rand(num_classes, generator=generator)
    order[labels] += 1.0
    return order.topk(count).indices.sort().values
