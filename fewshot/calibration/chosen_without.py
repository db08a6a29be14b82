"""Held-out predictions with hyperparameters that were chosen without the image, from the trainings that are there.

A held-out image is classified by a method that has not learned from it, but that may have been chosen on it: its
hyperparameters are the best of many on all held-out images. The more there are to choose among, the more this flatters
the accuracy. So they are chosen again for each part of the held-out images, on the other parts, and measured on it
(parts are the folds; of a single fold, or of separate validation images, four of equal size).

Nested cross-validation (`fewshot.model_selection.nested`) would also train without the part, 11 trainings instead of 5.
Here the classifiers that choose have learned from the images of the part, on which they are not measured.
Bias-corrected cross-validation (Tsamardinos, Greasidou and Borboudakis 2018, Machine Learning 107) reuses predictions
in the same way; it draws parts with replacement, and so at random from the few images of a class, while folds are
stratified. The cost: one more choice for each part, which is a sweep over trainings that the cache has, and the fits of
each other choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fewshot.method import Method, features_for
from fewshot.model_selection.cross_validation import Split, query_parts
from fewshot.optimization.content_order import content_digests
from fewshot.optimization.training_cache import TrainingCache
from fewshot.problem import Problem


@dataclass(frozen=True, slots=True, eq=False)
class ChosenWithout:
    """What was chosen without one part of n held-out images.

    Attributes:
        rows: [n] bool, the images of the part.
        logits: [n, K] float32, held out, of all images; None if the choice is the one on all of them.
    """

    rows: Tensor
    logits: Tensor | None


def choices_without(
    method: Method,
    selected: Method,
    problem: Problem,
    splits: Sequence[Split],
    *,
    seed: int,
    training_cache: TrainingCache,
) -> Iterator[ChosenWithout]:
    """Choose hyperparameters again without each part of the held-out images.

    Args:
        method: hyperparameters that are None are chosen.
        selected: the method with what was chosen on all held-out images.
        problem: the problem that was split.
        splits: the splits that it was chosen on, with n queries in all; none yields nothing.
        seed: of the folds, the choices and the fits.
        training_cache: cache of trained parameters.
    """
    if not splits:
        return
    parts = torch.cat(query_parts(splits, seed=seed))
    digests = [digest for split in splits for digest in content_digests(split.queries)]
    for part in sorted(set(parts.tolist())):
        rows = parts == part
        not_chosen_on = frozenset(digest for digest, out in zip(digests, rows.tolist(), strict=True) if out)
        chosen = method.select(replace(problem, not_chosen_on=not_chosen_on), seed=seed, training_cache=training_cache)
        if chosen == selected:
            yield ChosenWithout(rows, None)
            continue
        classifiers = [chosen.fit(split.problem, seed=seed, training_cache=training_cache) for split in splits]
        logits = [one.logits(features_for(one, split.queries)) for one, split in zip(classifiers, splits, strict=True)]
        yield ChosenWithout(rows, torch.cat(logits))
