"""SHIP (arXiv 2307.07397) on top of another method: it learns from synthetic shots as well.

Classes without examples get synthetic ones (`fewshot.feature_synthesis`), and the plain method learns from all of them
alike. Where no class lacks examples, or none has any, it is the plain method, bit for bit.

Hyperparameters are chosen on held-out images of the classes that have some, as there are no others. The generator is
trained anew on the rest of a split, so that the queries of the split play no part in it.

A synthetic mean has the same weight beside the text of its class as a real one, though it is worth less; the best
weight for new classes cannot be measured without images of them. The published forms of CoOp and CLIP-Adapter,
`image_weight = 0`, treat both kinds of classes alike.

Where we differ from the authors' code: synthetic features are drawn once and not anew in every step; nothing is chosen
by the accuracy on new classes (they report the best of five epochs on the test images).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch

from fewshot.feature_synthesis.extension import add_synthetic_shots, can_add_synthetic_shots, median_shots
from fewshot.feature_synthesis.vae_training import STEPS, GeneratorSettings
from fewshot.method import require_text_tower
from fewshot.methods.clip_adapter import ClipAdapter
from fewshot.methods.coop import Coop
from fewshot.methods.hyperparameters import check_number, values_for
from fewshot.methods.tip_adapter_f import TipAdapterF
from fewshot.model_selection.cross_validation import Split, selection_splits
from fewshot.optimization.training_cache import TrainingCache, no_cache
from fewshot.problem import Problem


@dataclass(frozen=True, kw_only=True)
class WithSyntheticShots:
    """Hyperparameters of SHIP, beside those of the plain method.

    Attributes:
        kl_weight: weight of the KL term, >= 0; 1 as published; with smaller values, synthetic features vary more.
        generator_steps: training steps of the generator, at most.
        synthetic_shots: synthetic features of each class without examples, >= 1; None is the median number of examples
            of the others.
    """

    __slots__ = ()

    folds: ClassVar[int] = 1
    plain: ClassVar[type[Any]]

    kl_weight: float = 1.0
    generator_steps: int = STEPS
    synthetic_shots: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        check_number("ship.kl_weight", self.kl_weight)
        check_number("ship.generator_steps", self.generator_steps)
        check_number("ship.synthetic_shots", self.synthetic_shots, low=1)
        self.plain.__post_init__(self)

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        plain = self._plain
        if None in values_for(self.plain, plain).values():
            plain = plain.select(
                self._to_choose_on(problem, seed=seed, training_cache=training_cache),
                seed=seed,
                training_cache=training_cache,
            )
        return replace(self, synthetic_shots=self._shots(problem), **values_for(self.plain, plain))

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Any:
        """See `Method.fit`."""
        selected = self.select(problem, seed=seed, training_cache=training_cache)
        return selected._plain.fit(
            self._extended(problem, seed=seed, training_cache=training_cache), seed=seed, training_cache=training_cache
        )

    def pretrain_fold(self, split: Split, *, seed: int, training_cache: TrainingCache) -> None:
        """See `TrainedMethod.pretrain_fold`."""
        whole = self._extended(split.problem, seed=seed, training_cache=training_cache)
        everything = torch.arange(len(whole.support))
        self._plain.pretrain_fold(Split(whole, everything, split.queries), seed=seed, training_cache=training_cache)

    @property
    def _plain(self) -> Any:
        return self.plain(**values_for(self.plain, self))

    def _to_choose_on(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> Problem:
        """Return the rest of a split, extended, with its queries as `val`; the whole problem where they are too few."""
        splits = selection_splits(problem, seed=seed, folds=self.folds)
        if not splits or not can_add_synthetic_shots(problem):
            return problem
        return replace(
            self._extended(splits[0].problem, seed=seed, training_cache=training_cache), val=splits[0].queries
        )

    def _extended(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> Problem:
        if not can_add_synthetic_shots(problem):
            return problem
        settings = GeneratorSettings(kl_weight=self.kl_weight, steps=self.generator_steps)
        shots = self._shots(problem)
        return add_synthetic_shots(
            problem, require_text_tower(problem), settings, shots=shots, seed=seed, training_cache=training_cache
        )

    def _shots(self, problem: Problem) -> int:
        return median_shots(problem) if self.synthetic_shots is None else self.synthetic_shots


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipClipAdapter(WithSyntheticShots, ClipAdapter):
    """Hyperparameters of SHIP and of CLIP-Adapter, see `WithSyntheticShots` and `ClipAdapter`."""

    name: ClassVar[str] = "ship_clip_adapter"
    folds: ClassVar[int] = WithSyntheticShots.folds
    plain: ClassVar[type[ClipAdapter]] = ClipAdapter


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipCoop(WithSyntheticShots, Coop):
    """Hyperparameters of SHIP and of CoOp, see `WithSyntheticShots` and `Coop`."""

    name: ClassVar[str] = "ship_coop"
    folds: ClassVar[int] = WithSyntheticShots.folds
    plain: ClassVar[type[Coop]] = Coop


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipTipAdapterF(WithSyntheticShots, TipAdapterF):
    """Hyperparameters of SHIP and of Tip-Adapter-F, see `WithSyntheticShots` and `TipAdapterF`."""

    name: ClassVar[str] = "ship_tip_adapter_f"
    folds: ClassVar[int] = WithSyntheticShots.folds
    plain: ClassVar[type[TipAdapterF]] = TipAdapterF
