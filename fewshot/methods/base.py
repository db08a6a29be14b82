"""What every feature-space method and its classifier offer. `tests/contract` holds them to it."""

from __future__ import annotations

from typing import ClassVar, Protocol, Self, runtime_checkable

from torch import Tensor

from fewshot.problem import Problem


@runtime_checkable
class Classifier(Protocol):
    """A frozen dataclass of tensors and numbers: what `fit` returns and what is stored (`fewshot.artefacts`)."""

    def logits(self, features: Tensor) -> Tensor:
        """Score images.

        Args:
            features: [B, D] float32, unit rows.

        Returns:
            [B, K] float32. A row depends on nothing but that row of `features`.
        """
        ...


class Method(Protocol):
    """A frozen, keyword-only dataclass of hyperparameters, each with a default; None means "choose inside the shots".

    Class attributes:
        name: the name in `METHODS` and in job files.
        summary: one line for `fewshot methods`.
        classifier_type: the dataclass that `fit` returns.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    classifier_type: ClassVar[type[Classifier]]

    def select(self, problem: Problem, *, seed: int) -> Self:
        """Fill in every hyperparameter that is None, using the shots (or `problem.val`) and nothing else.

        Deterministic in (problem as a set of images, seed); the order of the shots does not matter.
        """
        ...

    def fit(self, problem: Problem, *, seed: int) -> Classifier:
        """Learn from the shots. Calls `select` first when a hyperparameter is still None."""
        ...
