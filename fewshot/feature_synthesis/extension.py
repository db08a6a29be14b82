"""A problem in which some classes have only a name, as one in which all have shots.

What learns from shots needs no change to learn from synthetic ones: it is given the extended problem.
"""

from __future__ import annotations

from dataclasses import asdict
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
    """Whether there are shots to learn a generator from, and classes without any."""
    return 0 < int((problem.counts > 0).sum()) < problem.num_classes


def median_shots(problem: Problem) -> int:
    """Median (of two, the lower) number of shots over the classes that have any; 1 where none has."""
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
    """Give the classes without shots synthetic ones, learned from the classes that have some.

    Args:
        problem: one that `can_add_synthetic_shots`.
        tower: of the backbone.
        settings: of the generator.
        shots: how many each class without shots gets.
        seed: of the generator and of what it draws.
        training_cache: where trainings, and the features, are kept.

    Returns:
        the same problem with more support: the real shots as they were, without dense tokens, then the synthetic ones,
        as long as real features are on average and the same in every view.
    """
    labels = (problem.counts == 0).nonzero().squeeze(1)
    names = problem.label_space.prompt_names_of(labels.tolist())

    def draw() -> dict[str, Tensor]:
        generator = learn_generator(problem, tower, settings, seed=seed, training_cache=training_cache)
        length = Shots.from_problem(problem).views.norm(dim=2).mean()
        return {"features": length * synthesise(generator, tower, names, count=shots, seed=seed)}

    key = training_key("ship_features", problem, seed=seed, shots=shots, **asdict(settings))
    views = problem.support.views
    made = training_cache(key, draw)["features"]
    return problem.with_support(
        Labelled(
            torch.cat([views, made[:, None].expand(-1, views.shape[1], -1)]),
            torch.cat([problem.support.labels, labels.repeat_interleave(shots)]),
        )
    )
