"""Comparison of methods by nested cross-validation inside the shots.

A method chooses its hyperparameters as the best of many on held-out images, and is flattered on these: the more there
are to choose among, the more so. So each fold of the shots is classified by methods that have not seen it at all: they
choose their hyperparameters on folds of the other shots, and learn from these. What is compared is the method with its
choice, as it will be used, on a few shots less.

The cost: with 4 folds, 4 choices of hyperparameters and 4 fits. What is left of the shots without a fold is split into
the other three, so a trained method is trained without each of the 6 pairs of folds, beside the 4 + 1 trainings that it
needs when it is named. All of them go through the training cache.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fewshot.method import Method, features_for
from fewshot.model_selection.candidates import CandidateResult, measure_candidates
from fewshot.model_selection.cross_validation import MIN_QUERIES, Split, nested_splits, selection_splits
from fewshot.optimization.training_cache import TrainingCache
from fewshot.problem import Problem


def compare_nested(
    methods: Sequence[Method], problem: Problem, *, seed: int, training_cache: TrainingCache
) -> tuple[CandidateResult, ...]:
    """Measure methods by nested cross-validation and rank them.

    Args:
        methods: of different names, the simplest first; hyperparameters that are None are chosen anew for each fold.
        problem: the shots, and `val`.
        seed: of the folds, the choices and the fits.
        training_cache: cache of trained parameters.

    Returns:
        See `measure_candidates`; empty if too few images can be held out (`MIN_QUERIES`), or too few of those that a
        fold leaves, as with two shots a class: the methods could not choose their hyperparameters.

    Raises:
        DataError: no method has finite logits.
    """
    splits = nested_splits(problem, seed=seed)[: min(method.folds for method in methods)]
    images = sum(len(split.queries) for split in splits)
    if images < MIN_QUERIES or not all(selection_splits(split.problem, seed=seed) for split in splits):
        return ()
    logits = {
        method.name: torch.cat([_logits(method, split, seed=seed, training_cache=training_cache) for split in splits])
        for method in methods
    }
    return measure_candidates(logits, torch.cat([split.queries.labels for split in splits]))


def _logits(method: Method, split: Split, *, seed: int, training_cache: TrainingCache) -> Tensor:
    """Return the logits of the queries, [Q, K] float32, from a method that has seen the rest of the split only."""
    problem = split.problem
    selected = method.select(problem, seed=seed, training_cache=training_cache)
    classifier = selected.fit(problem, seed=seed, training_cache=training_cache)
    return classifier.logits(features_for(classifier, split.queries))
