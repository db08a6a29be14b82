"""Extension of a problem by synthetic shots for the classes that have only a name.

A method learns from the extended problem as from any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fewshot.feature_synthesis.synthesis import synthesise
from fewshot.feature_synthesis.vae_training import GeneratorSettings, learn_generator
from fewshot.optimization.shots import Shots
from fewshot.optimization.training_cache import TrainingCache, training_key
from fewshot.problem import Labelled, Problem

if TYPE_CHECKING:
    from fewshot.backbones.text_tower import TextTower


def can_add_synthetic_shots(problem: Problem) -> bool:
    """Return whether there are both shots to train a generator on and classes without shots."""
    return 0 < int((problem.counts > 0).sum()) < problem.num_classes


def median_shots(problem: Problem) -> int:
    """Return the median number of shots over the classes with shots, the lower of two; 1 without any shots."""
    counts = problem.counts
    return int(counts[counts > 0].median()) if len(problem.support) else 1


def add_synthetic_shots(
    problem: Problem,
    tower: TextTower,
    settings: GeneratorSettings,
    *,
    shots: int,
    seed: int,
    training_cache: TrainingCache,
) -> Problem:
    """Add synthetic shots to the classes without shots, by a generator trained on the other classes.

    Args:
        problem: a problem for which `can_add_synthetic_shots` is true.
        tower: the text tower of the backbone.
        settings: settings of the generator.
        shots: number of synthetic shots of each class without shots.
        seed: of the generator and the draws from it.
        training_cache: cache of trained parameters and synthetic features.

    Returns:
        The problem with more support: the real shots unchanged but without dense tokens, then the synthetic shots, with
        the mean length of the real features and equal views.
    """
    labels = (problem.counts == 0).nonzero().squeeze(1)
    names = problem.label_space.prompt_names_of(labels.tolist())

    def draw() -> dict[str, Tensor]:
        generator = learn_generator(problem, tower, settings, seed=seed, training_cache=training_cache)
        length = Shots.from_problem(problem).views.norm(dim=2).mean()
        return {"features": length * synthesise(generator, tower, names, count=shots, seed=seed)}

    key = training_key("ship_features", problem, seed=seed, shots=shots, **settings.identity())
    views = problem.support.views
    made = training_cache(key, draw)["features"]
    return problem.with_support(
        Labelled(
            torch.cat([views, made[:, None].expand(-1, views.shape[1], -1)]),
            torch.cat([problem.support.labels, labels.repeat_interleave(shots)]),
        )
    )
