"""What textual inversion and MC-TI share as methods: checks, the point that is chosen, the classifier."""

from __future__ import annotations

from typing import Any, get_args

from fewshot.diffusion.tokens import (
    Calibration,
    GammaSchedule,
    Pool,
    TokenClassifier,
    TokenPoint,
    TokenRecipe,
    choose_point,
    classifier_of,
    learn,
)
from fewshot.memo import Memo
from fewshot.methods.hyperparameters import check_choice, check_number, values_for
from fewshot.problem import Problem


def recipe_of(method: Any) -> TokenRecipe:
    """The recipe that a method's hyperparameters make.

    Raises:
        DataError: a value is out of its range; the message names the hyperparameter.
    """
    name = method.name
    recipe = TokenRecipe(**values_for(TokenRecipe, method))
    check_choice(f"{name}.pool", recipe.pool, get_args(Pool))
    check_choice(f"{name}.gamma_schedule", recipe.gamma_schedule, get_args(GammaSchedule))
    for number in ("steps", "alpha", "gamma", "coupled"):
        check_number(f"{name}.{number}", getattr(recipe, number))
    for number in ("images", "classes"):
        check_number(f"{name}.{number}", getattr(recipe, number), low=1)
    for number in ("learning_rate", "gamma_end", "scale"):
        check_number(f"{name}.{number}", getattr(recipe, number), low=1e-9)
    return recipe


def check_point(method: Any) -> None:
    """Check what may be chosen.

    Raises:
        DataError: a value is out of its range; the message names the hyperparameter.
    """
    if method.calibration is not None:
        check_choice(f"{method.name}.calibration", method.calibration, get_args(Calibration))
    check_number(f"{method.name}.image_weight", method.image_weight)


def chosen_point(method: Any, problem: Problem, *, seed: int, memo: Memo) -> TokenPoint:
    """Calibration and image weight: those given, or chosen inside the shots."""
    recipe = recipe_of(method)
    return choose_point(
        problem,
        lambda part: learn(part, recipe, seed=seed, memo=memo),
        calibration=method.calibration,
        image_weight=method.image_weight,
        folds=method.folds,
        seed=seed,
    )


def fitted(method: Any, problem: Problem, *, seed: int, memo: Memo) -> TokenClassifier:
    """Tokens of all shots, and the classifier at the chosen point."""
    point = chosen_point(method, problem, seed=seed, memo=memo)
    learned = learn(problem, recipe_of(method), seed=seed, memo=memo)
    return classifier_of(problem, learned, **point._asdict())
