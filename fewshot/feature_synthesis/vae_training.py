"""Training of SHIP's generator on the classes with examples.

Differences from the authors' code:

* Features are not recomputed from augmented images in every epoch; each step draws one of the stored views instead.
* Steps have 8 images instead of 256, and the rate falls along half a cosine instead of being constant: a step costs a
  forward and a backward pass of the text tower for each image, and at the start the shift is far larger than word
  embeddings, which many small steps correct sooner than few large ones. On 41 classes of groceries with 16 shots the
  published schedule (150 steps of 256) takes 266 s of one core and ends at a reconstruction of 1.19; 100 steps of 64
  take 59 s and end at 1.46, 150 of 16 take 41 s and end at 1.14, and the 200 steps of 8 here take 35 s and end at 1.08.
  `GeneratorSettings.published` has the schedule of the authors: 50 epochs of 256 images at a constant rate.
* The use of the latent is measured and logged, because with a weight of 1 on the KL term the optimal latent carries no
  information (it would need features that vary by more than 1/2 within a class, and unit features vary less in all
  directions together).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.feature_synthesis.diagnostics import measure_generator
from fewshot.feature_synthesis.synthesis import decode
from fewshot.feature_synthesis.vae import decoder, divergence, initial_weights, posterior, reconstruction, sample
from fewshot.optimization.descent import Loss, constant, cosine, descend
from fewshot.optimization.shots import Shots, augmented_views, draw_views
from fewshot.optimization.training_cache import State, TrainingCache, training_key
from fewshot.problem import Problem

if TYPE_CHECKING:
    from fewshot.backbones.text_tower import TextTower

log = logging.getLogger(__name__)

STEPS = 200
PUBLISHED_BATCH_SIZE = 256
MAX_EPOCHS = 50
"""Maximum number of passes over the shots, as published; `GeneratorSettings.steps` may end the training earlier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorSettings:
    """Settings of the training of a generator.

    Attributes:
        context: M, the number of prompt tokens, >= 1.
        kl_weight: weight of the KL term, >= 0; 1 as published, with 1e-3 the latent does not collapse.
        steps: maximum number of steps.
        batch_size: images, and so text-tower sequences, in a step.
        learning_rate: peak of AdamW, along half a cosine.
        is_published: the rate is constant, and only augmented views are drawn, as the authors do.
    """

    context: int = 4
    kl_weight: float = 1.0
    steps: int = STEPS
    batch_size: int = 8
    learning_rate: float = 1e-3
    is_published: bool = False

    @classmethod
    def published(cls, images: int, *, kl_weight: float = 1.0) -> Self:
        """Return the authors' settings for a number of shots."""
        steps = MAX_EPOCHS * -(-images // PUBLISHED_BATCH_SIZE)
        return cls(kl_weight=kl_weight, steps=steps, batch_size=PUBLISHED_BATCH_SIZE, is_published=True)

    def identity(self) -> dict[str, Any]:
        """Return all that determines the generator, as JSON values; `is_published`, which came later, if it is set."""
        return {name: value for name, value in asdict(self).items() if name != "is_published" or value}


def learn_generator(
    problem: Problem, tower: TextTower, settings: GeneratorSettings, *, seed: int, training_cache: TrainingCache
) -> State:
    """Train the generator of a problem, or get it from the cache.

    Args:
        problem: with at least one shot. Classes without shots, and their names, are not used.
        tower: the text tower of the backbone.
        settings: settings of the training.
        seed: of the initial weights, the order, the views and the noise.
        training_cache: cache of trained parameters.

    Returns:
        The decoder's weights, and "diagnostics.*" (see `measure_generator`).
    """
    key = training_key("ship_generator", problem, seed=seed, **settings.identity())
    return training_cache(key, partial(_learn, problem, tower, settings, seed=seed))


def _learn(problem: Problem, tower: TextTower, settings: GeneratorSettings, *, seed: int) -> State:
    shots = Shots.from_problem(problem)
    names = problem.label_space.prompt_names_of(shots.classes.tolist())
    weights = train(names, shots, tower, settings, seed=seed)
    facts = measure_generator(weights, tower, names, shots, seed=seed)
    log.info("trained=ship_generator %s", " ".join(f"{name}={float(value):.4g}" for name, value in facts.items()))
    return decoder(weights) | {f"diagnostics.{name}": value for name, value in facts.items()}


def train(
    names: Sequence[str], shots: Shots, tower: TextTower, settings: GeneratorSettings, *, seed: int
) -> dict[str, Tensor]:
    """Train the autoencoder.

    Args:
        names: k prompt names, indexed by the labels of the shots.
        shots: at least one shot.
        tower: the text tower of the backbone.
        settings: settings of the training.
        seed: of all random numbers.

    Returns:
        All weights, including those of the encoder.
    """
    epoch = -(-len(shots.labels) // settings.batch_size)
    if settings.is_published:
        shots = replace(shots, views=augmented_views(shots.views))
    return descend(
        initial_weights(dim=tower.dim, width=tower.width, latent=tower.dim, context=settings.context, seed=seed),
        _loss(names, shots, tower, settings),
        optimizer=partial(torch.optim.AdamW, lr=settings.learning_rate, weight_decay=0.01),
        rows=len(shots.labels),
        batch_size=settings.batch_size,
        steps=min(settings.steps, MAX_EPOCHS * epoch),
        seed=seed,
        rate=constant if settings.is_published else cosine,
    )


def _loss(names: Sequence[str], shots: Shots, tower: TextTower, settings: GeneratorSettings) -> Loss:
    prompts = tower.prompts(names, context=settings.context)

    def loss(weights: Mapping[str, Tensor], rows: Tensor, generator: torch.Generator) -> Tensor:
        features = normalize(draw_views(shots.views, rows, generator=generator), dim=1)
        mean, log_variance = posterior(weights, features)
        latents = sample(mean, log_variance, torch.randn(mean.shape, generator=generator))
        produced = decode(weights, tower, prompts[shots.labels[rows]], latents)
        return reconstruction(produced, features) + settings.kl_weight * divergence(mean, log_variance).sum()

    return loss
