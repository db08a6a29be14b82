"""What every feature-space method and its classifier offer. `tests/contract` holds them to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor

from fewshot.errors import DataError
from fewshot.model_selection.cross_validation import Split
from fewshot.optimization.training_cache import TrainingCache, no_cache
from fewshot.problem import Labelled, Problem

if TYPE_CHECKING:
    from fewshot.backbones.text_tower import TextTower

Need = Literal["dense", "diffusion", "text_tower"]
"""What a method wants beside features: `Labelled.dense` with `Problem.pooling`, `Labelled.latents` with
`Problem.diffusion`, or `Problem.text_tower`."""


@runtime_checkable
class Classifier(Protocol):
    """A frozen dataclass: what `fit` returns and what is stored (`fewshot.inference.classifier_files`).

    Its fields are tensors, numbers and mappings from names to tensors. A field `text_tower` or `pooling` is that part
    of the backbone: it is not stored, and put back when the classifier is loaded.
    """

    def logits(self, features: Tensor) -> Tensor:
        """Score images.

        Args:
            features: [B, D] float32, unit rows.

        Returns:
            [B, K] float32. A row depends on nothing but that row of `features`.
        """
        ...


@runtime_checkable
class PoolingClassifier(Classifier, Protocol):
    """A classifier with a pooling of its own: `logits` wants features that come from `pool`."""

    def pool(self, dense: Tensor) -> Tensor:
        """Features of images.

        Args:
            dense: [B, T, C] float16 or float32, see `Labelled.dense`.

        Returns:
            [B, D] float32, unit rows.
        """
        ...


class Method(Protocol):
    """A frozen, keyword-only dataclass of hyperparameters, each with a default; None means "choose inside the shots".

    Class attributes:
        name: the name in `METHODS` and in job files.
        summary: one line for `fewshot methods`.
        classifier_type: the dataclass that `fit` returns.
        needs: what it wants beside features.
        folds: how many of the four folds it is chosen and calibrated on; fewer where training is expensive.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    classifier_type: ClassVar[type[Classifier]]
    needs: ClassVar[frozenset[Need]]
    folds: ClassVar[int]

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Method:
        """Fill in every hyperparameter that is None, using the shots (or `problem.val`) and nothing else.

        Deterministic in (problem as a set of images, seed); the order of the shots does not matter.
        """
        ...

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Classifier:
        """Learn from the shots. Calls `select` first when a hyperparameter is still None."""
        ...


@runtime_checkable
class TrainedMethod(Method, Protocol):
    """A method that descends gradients, so that its folds are worth spreading over workers."""

    def pretrain_fold(self, split: Split, *, seed: int, training_cache: TrainingCache) -> None:
        """Train, through the memo, everything that `select` and calibration ask for on this split."""
        ...


def features_for(classifier: Classifier, images: Labelled) -> Tensor:
    """[M, D] float32, unit rows: what `classifier.logits` wants of these images.

    Raises:
        DataError: the classifier pools by itself, and the images have no dense tokens.
    """
    if not isinstance(classifier, PoolingClassifier):
        return images.features
    if images.dense is None:
        raise DataError(f"{type(classifier).__name__} pools dense tokens, but these images come without")
    return classifier.pool(images.dense)


def require_text_tower(problem: Problem) -> TextTower:
    """The problem's text tower.

    Raises:
        DataError: it has none.
    """
    if problem.text_tower is None:
        raise DataError("this method puts vectors into the backbone's text tower, but the problem comes without one")
    return problem.text_tower
