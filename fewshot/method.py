"""The interfaces: of methods that learn from features, of their classifiers, and of diffusion scorers.

`tests/contract` checks that each method fulfils the first two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from torch import Tensor

from fewshot.errors import DataError
from fewshot.model_selection.cross_validation import Split
from fewshot.optimization.training_cache import TrainingCache, no_cache
from fewshot.problem import Labelled, Problem

if TYPE_CHECKING:
    from fewshot.backbones.text_tower import TextTower
    from fewshot.classes import LabelSpace
    from fewshot.diffusion.adapter_training import AdapterSettings
    from fewshot.diffusion.image_sampling import PriorImages
    from fewshot.diffusion.recipe_settings import ScoringSettings


@runtime_checkable
class Classifier(Protocol):
    """A frozen dataclass that `fit` returns and that is stored (`fewshot.inference.classifier_files`).

    Its fields are tensors, numbers and mappings from names to tensors. A field `text_tower` or `pooling` is that part
    of the backbone: it is not stored, but put back when the classifier is loaded.
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
    """A classifier with a pooling of its own: `logits` takes features that come from `pool`."""

    def pool(self, dense: Tensor) -> Tensor:
        """Pool dense tokens into features.

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
        classifier_type: the dataclass that `fit` returns.
        folds: how many of the four folds it is chosen and calibrated on; fewer where training is expensive.
    """

    name: ClassVar[str]
    classifier_type: ClassVar[type[Classifier]]
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
    """A method that trains by gradient descent, so that its folds are worth spreading over workers."""

    def pretrain_fold(self, split: Split, *, seed: int, training_cache: TrainingCache) -> None:
        """Train everything that `select` and calibration use on this split, through the training cache."""
        ...


class DiffusionScorer(Protocol):
    """A frozen, keyword-only dataclass of hyperparameters, each with a default.

    An image's score for a class is the mean of w_t · e(class, t) over time-steps t (`fewshot.diffusion.noise_errors`),
    and the smallest wins. The method defines the prompt of a class, whether adapters are trained for it, the weights of
    the time-steps, and which of these are scored.

    Class attributes:
        name: the name in `DIFFUSION_SCORERS` and in job files.
    """

    name: ClassVar[str]

    @property
    def scoring(self) -> ScoringSettings:
        """How errors are measured, and which time-steps are scored."""
        ...

    def prompts(self, label_space: LabelSpace) -> tuple[str, ...]:
        """Return K prompts, one for each class."""
        ...

    def adapter_settings(self, *, latent_side: int, shots: int) -> AdapterSettings | None:
        """Return how the adapters of a class are trained; None for a method that trains none.

        Args:
            latent_side: h = w of the latents of the backbone; 64 for Stable Diffusion at 512 pixels.
            shots: images of the class.
        """
        ...

    def prior(self, *, latent_side: int) -> PriorImages | None:
        """Return which images the adapters of all classes should leave unchanged; None for no such images.

        Args:
            latent_side: see `adapter_settings`.
        """
        ...

    def weights(self, latents: Tensor, labels: Tensor, *, num_steps: int) -> Tensor:
        """Return the weights of the time-steps.

        Args:
            latents: [M, C, h, w] float32, mean latents of the examples.
            labels: [M] int64.
            num_steps: T.

        Returns:
            [T] float64, >= 0, not all 0.
        """
        ...


def features_for(classifier: Classifier, images: Labelled) -> Tensor:
    """Return the features of images that `classifier.logits` takes, [M, D] float32, unit rows.

    Raises:
        DataError: the classifier pools by itself, and the images have no dense tokens.
    """
    if not isinstance(classifier, PoolingClassifier) or not len(images):
        return images.features  # Of no image, the number of tokens may not be known.
    if images.dense is None:
        raise DataError(f"{type(classifier).__name__} pools dense tokens, but these images come without")
    return classifier.pool(images.dense)


def require_text_tower(problem: Problem) -> TextTower:
    """Return the text tower of a problem.

    Raises:
        DataError: it has none.
    """
    if problem.text_tower is None:
        raise DataError(
            "this method puts vectors into the backbone's text tower, but the problem has none; set Problem.text_tower"
        )
    return problem.text_tower
