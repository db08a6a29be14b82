"""Learning SHIP's generator from the classes that have examples.

Where we differ from the authors' code:

* Features are not recomputed from augmented images every epoch; each step draws one of the stored views instead.
* Steps have 8 images instead of 256, and the rate falls along half a cosine instead of staying: a step costs a forward
  and a backward of the text tower for each image, and many small steps leave the start, where the shift is far larger
  than word embeddings, sooner than few large ones. On 41 classes of groceries with 16 shots the published schedule (150
  steps of 256) takes 266 s of one core and ends at a reconstruction of 1.19; 100 steps of 64 take 59 s and end at 1.46,
  150 of 16 take 41 s and end at 1.14, and the 200 steps of 8 here take 35 s and end at 1.08.
* Training says how much of the latent is used, because with their weight of 1 on the KL term the best latent is one
  that says nothing (a latent survives where features vary by more than 1/2 inside a class, and unit features vary less
  in all directions together).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.feature_synthesis.diagnostics import measure_generator
from fewshot.feature_synthesis.synthesis import decode
from fewshot.feature_synthesis.vae import decoder, divergence, initial_weights, posterior, reconstruction, sample
from fewshot.optimization.descent import Loss, descend
from fewshot.optimization.shots import Shots, draw_views
from fewshot.optimization.training_cache import State, TrainingCache, training_key
from fewshot.problem import Problem

if TYPE_CHECKING:
    from fewshot.backbones.text_tower import TextTower

log = logging.getLogger(__name__)

STEPS = 200
MAX_EPOCHS = 50
"""Passes over the shots, as published; fewer where `GeneratorSettings.steps` ends training before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorSettings:
    """How a generator is learned.

    Attributes:
        context: M, how many prompt tokens, >= 1.
        kl_weight: of the KL term, >= 0; 1 as published, 1e-3 lets the latent say something.
        steps: of gradient descent, at most.
        batch_size: images, and so text-tower sequences, in a step.
        learning_rate: of AdamW.
    """

    context: int = 4
    kl_weight: float = 1.0
    steps: int = STEPS
    batch_size: int = 8
    learning_rate: float = 1e-3


def learn_generator(
    problem: Problem, tower: TextTower, settings: GeneratorSettings, *, seed: int, training_cache: TrainingCache
) -> State:
    """The generator of a problem, trained once for a memo.

    Args:
        problem: with at least one shot. Of the classes without, not even the names are looked at.
        tower: of the backbone.
        settings: how to learn.
        seed: of the initial weights, the order, the views and the noise.
        training_cache: where trainings are kept.

    Returns:
        the decoder's weights, and "diagnostics.*" (see `measure_generator`).
    """
    key = training_key("ship_generator", problem, seed=seed, **asdict(settings))
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
    """All weights of the autoencoder, the encoder's included.

    Args:
        names: k names as people say them; the shots' labels index them.
        shots: at least one.
        tower: of the backbone.
        settings: how to learn.
        seed: of everything random.
    """
    epoch = -(-len(shots.labels) // settings.batch_size)
    return descend(
        initial_weights(dim=tower.dim, width=tower.width, latent=tower.dim, context=settings.context, seed=seed),
        _loss(names, shots, tower, settings),
        optimizer=partial(torch.optim.AdamW, lr=settings.learning_rate, weight_decay=0.01),
        rows=len(shots.labels),
        batch_size=settings.batch_size,
        steps=min(settings.steps, MAX_EPOCHS * epoch),
        seed=seed,
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
