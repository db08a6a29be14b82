"""Textual inversion as a method (Gal et al. 2022, arXiv 2208.01618): a class is the token that reconstructs its images.

It is the baseline that MC-TI is measured against. Nothing in its loss tells classes apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from fewshot.diffusion.tokens import Calibration, Pool, TokenClassifier, learn
from fewshot.memo import Memo, forget
from fewshot.methods.base import Need
from fewshot.methods.token_recipe import check_point, chosen_point, fitted, recipe_of
from fewshot.problem import Problem
from fewshot.selection import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class TextualInversion:
    """Hyperparameters of textual inversion; None is chosen inside the shots. Class names are not used.

    Attributes:
        calibration: of texts against each other, see `fewshot.diffusion.tokens.rows`; "none" is the papers'.
        image_weight: weight of a class's mean beside its text row, >= 0; 0 is the papers'.
        word, steps, images, learning_rate, pool, classes: see `fewshot.diffusion.tokens.TokenRecipe`.
    """

    name: ClassVar[str] = "textual_inversion"
    summary: ClassVar[str] = "a token for each class that reconstructs its examples; no class names; slow"
    classifier_type: ClassVar[type[TokenClassifier]] = TokenClassifier
    needs: ClassVar[frozenset[Need]] = frozenset({"diffusion"})
    folds: ClassVar[int] = 1
    gamma: ClassVar[float] = 0.0

    calibration: Calibration | None = None
    image_weight: float | None = None
    word: str = "picture"
    steps: int = 100
    images: int = 4
    learning_rate: float = 1e-2
    pool: Pool = "eos"
    classes: int = 8

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        check_point(self)
        recipe_of(self)

    def select(self, problem: Problem, *, seed: int, memo: Memo = forget) -> Self:
        """See `Method.select`."""
        return replace(self, **chosen_point(self, problem, seed=seed, memo=memo)._asdict())

    def fit(self, problem: Problem, *, seed: int, memo: Memo = forget) -> TokenClassifier:
        """See `Method.fit`."""
        return fitted(self, problem, seed=seed, memo=memo)

    def rehearse(self, split: Split, *, seed: int, memo: Memo) -> None:
        """See `TrainedMethod.rehearse`."""
        learn(split.problem, recipe_of(self), seed=seed, memo=memo)
