"""The interfaces of feature-space methods and their classifiers; `tests/contract` checks every method against them."""

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
"""What a method needs beside features: `Labelled.dense` with `Problem.pooling`, `Labelled.latents` with
`Problem.diffusion`, or `Problem.text_tower`."""


@runtime_checkable
class Classifier(Protocol):
    """The result of `Method.fit`: a frozen dataclass that can be stored (`fewshot.inference.classifier_files`).

    Its fields are tensors, numbers and mappings from names to tensors. A field `text_tower` or `pooling` is that part
    of the backbone: it is not stored, but passed when the classifier is loaded.
    """

    def logits(self, features: Tensor) -> Tensor:
        """Return the logits of images.

        Args:
            features: [B, D] float32, unit rows.

        Returns:
            [B, K] float32. A row depends on that row of `features` only.
        """
        ...


@runtime_checkable
class PoolingClassifier(Classifier, Protocol):
    """A classifier with its own pooling: `logits` takes features from `pool`."""

    def pool(self, dense: Tensor) -> Tensor:
        """Return the features of images.

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
        needs: the inputs beside features.
        folds: the number of folds for selection and calibration, at most four; fewer if training is expensive.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    classifier_type: ClassVar[type[Classifier]]
    needs: ClassVar[frozenset[Need]]
    folds: ClassVar[int]

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Method:
        """Return the method with a value for every hyperparameter that is None, chosen on the shots or `problem.val`.

        The result depends on the set of images and the seed, not on the order of the shots.
        """
        ...

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Classifier:
        """Fit a classifier to the shots, after `select` if a hyperparameter is None."""
        ...


@runtime_checkable
class TrainedMethod(Method, Protocol):
    """A method that is trained by gradient descent, so that spreading its folds over workers saves time."""

    def pretrain_fold(self, split: Split, *, seed: int, training_cache: TrainingCache) -> None:
        """Put into the cache every training that `select` and calibration need for this split."""
        ...


def features_for(classifier: Classifier, images: Labelled) -> Tensor:
    """Return the features of images for `classifier.logits`: [M, D] float32, unit rows.

    Raises:
        DataError: the classifier has its own pooling, and the images have no dense tokens.
    """
    if not isinstance(classifier, PoolingClassifier):
        return images.features
    if images.dense is None:
        raise DataError(
            f"{type(classifier).__name__} pools dense tokens, but these images have none; set Labelled.dense"
        )
    return classifier.pool(images.dense)


def require_text_tower(problem: Problem) -> TextTower:
    """Return the problem's text tower.

    Raises:
        DataError: the problem has no text tower.
    """
    if problem.text_tower is None:
        raise DataError("this method needs the text tower of the backbone; set Problem.text_tower")
    return problem.text_tower
