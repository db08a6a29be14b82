"""SHIP (arXiv 2307.07397) on top of another method: it learns from synthetic shots as well.

Classes without examples get synthetic ones (`fewshot.feature_synthesis`), and the plain method learns from all of them
alike. Where no class lacks examples, or none has any, it is the plain method, bit for bit.

Hyperparameters are chosen on held-out images of the classes that have some, as there are no others. The generator is
trained anew on the rest of a split, so that the queries of the split play no part in it.

A synthetic mean has the same weight beside the text of its class as a real one, though it is worth less; the best
weight for new classes cannot be measured without images of them. The published forms of CoOp and CLIP-Adapter,
`image_weight = 0`, treat both kinds of classes alike.

Where we differ from the authors' code: synthetic features are drawn once and not anew in every step; nothing is chosen
by the accuracy on new classes (they report the best of five epochs on the test images). `recipe = "published"` trains
the generator as they do, with the published recipe of the plain method; CoOp has none, but is used without class means
and prompt prototypes. Of SHIP with adapters no code is public: it is their published training on both kinds of shots.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, get_args

import torch

from fewshot.feature_synthesis.extension import add_synthetic_shots, can_add_synthetic_shots, median_shots
from fewshot.feature_synthesis.vae_training import GeneratorSettings
from fewshot.method import require_text_tower
from fewshot.methods.clip_adapter import ClipAdapter
from fewshot.methods.coop import Coop
from fewshot.methods.hyperparameters import Recipe, check_choice, check_count, check_number, values_for
from fewshot.methods.tip_adapter_f import TipAdapterF
from fewshot.model_selection.cross_validation import Split, selection_splits
from fewshot.optimization.training_cache import TrainingCache, no_cache
from fewshot.problem import Problem


@dataclass(frozen=True, kw_only=True)
class WithSyntheticShots:
    """Hyperparameters of SHIP, beside those of the plain method.

    Attributes:
        recipe: "published" takes the settings of the authors, of the generator and of the plain method, for what is not
            set.
        kl_weight: weight of the KL term, >= 0; 1 as published; with smaller values, synthetic features vary more.
        generator_steps: training steps of the generator, at most. Not set: 200, published 50 epochs of 256 images.
        synthetic_shots: synthetic features of each class without examples, >= 1; None is the median number of examples
            of the others.
    """

    __slots__ = ()

    folds: ClassVar[int] = 1
    plain: ClassVar[type[Any]]

    kl_weight: float = 1.0
    generator_steps: int | None = None
    synthetic_shots: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        check_number("ship.kl_weight", self.kl_weight)
        check_count("ship.generator_steps", self.generator_steps)
        check_count("ship.synthetic_shots", self.synthetic_shots, low=1)
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
        own = {"synthetic_shots": self._shots(problem), "generator_steps": self._generator(problem).steps}
        return replace(self, **own, **values_for(self.plain, plain))

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

    @property
    def _is_published(self) -> bool:
        return getattr(self, "recipe", "default") == "published"  # A field of the plain method, but for CoOp.

    def _generator(self, problem: Problem) -> GeneratorSettings:
        settings = GeneratorSettings(kl_weight=self.kl_weight)
        if self._is_published:
            settings = GeneratorSettings.published(len(problem.support), kl_weight=self.kl_weight)
        return settings if self.generator_steps is None else replace(settings, steps=self.generator_steps)

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
        settings, shots = self._generator(problem), self._shots(problem)
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
    """Hyperparameters of SHIP and of CoOp, see `WithSyntheticShots` and `Coop`.

    Attributes:
        recipe: "published" trains the generator as the authors do, and uses neither class means nor prompt prototypes.
    """

    name: ClassVar[str] = "ship_coop"
    folds: ClassVar[int] = WithSyntheticShots.folds
    plain: ClassVar[type[Coop]] = Coop

    recipe: Recipe = "default"

    def __post_init__(self) -> None:
        """Check the ranges. Raises as `WithSyntheticShots.__post_init__`."""
        check_choice("ship_coop.recipe", self.recipe, get_args(Recipe))
        WithSyntheticShots.__post_init__(self)

    @property
    def _plain(self) -> Coop:
        published = {"prompt_share": 1.0, "image_weight": 0.0} if self._is_published else {}
        own = {name: value for name, value in published.items() if getattr(self, name) is None}
        return Coop(**values_for(Coop, self) | own)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipTipAdapterF(WithSyntheticShots, TipAdapterF):
    """Hyperparameters of SHIP and of Tip-Adapter-F, see `WithSyntheticShots` and `TipAdapterF`."""

    name: ClassVar[str] = "ship_tip_adapter_f"
    folds: ClassVar[int] = WithSyntheticShots.folds
    plain: ClassVar[type[TipAdapterF]] = TipAdapterF
