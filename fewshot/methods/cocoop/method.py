"""CoCoOp as a method: one training, and two hyperparameters chosen after it on held-out shots.

They are chosen with the image-independent prompts, which cost K sequences instead of one for each held-out image and
class of its shortlist.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import ClassVar, Self

from torch import Tensor
from torch.nn.functional import normalize

from fewshot.method import require_text_tower
from fewshot.methods.cocoop.classifier import CocoopClassifier
from fewshot.methods.context_recipe import check_settings
from fewshot.methods.hyperparameters import check_number, values_for
from fewshot.model_selection.cross_validation import Split
from fewshot.optimization.shots import Shots
from fewshot.optimization.training_cache import State, TrainingCache, no_cache, training_key
from fewshot.problem import Problem
from fewshot.prompt_learning import ContextTrainingSettings, RowsPoint, class_means_of
from fewshot.prompt_learning.conditional_context import Weights, learn_shifted_context, shifts
from fewshot.prompt_learning.context_rows import choose_rows
from fewshot.prompt_learning.learning_rate import OptimizerName
from fewshot.prompt_learning.shared_context import context_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Cocoop:
    """Hyperparameters of CoCoOp; None is chosen inside the shots.

    Attributes:
        prompt_share: share of the learned rows beside the prompt prototypes, in [0, 1]; 1 as in the paper.
        image_weight: weight of the class mean beside its row, >= 0; 0 as in the paper.
        shortlist: number of classes of an image that get prompts of their own, >= 1; all of them as in the paper.
        context, words, steps, learning_rate, optimizer, batch_size, classes: see
            `fewshot.prompt_learning.ContextTrainingSettings`; a step encodes batch_size · classes sequences.
    """

    name: ClassVar[str] = "cocoop"
    classifier_type: ClassVar[type[CocoopClassifier]] = CocoopClassifier
    folds: ClassVar[int] = 1

    prompt_share: float | None = None
    image_weight: float | None = None
    shortlist: int = 5
    context: int = 4
    words: str = "a photo of a"
    steps: int = 40
    learning_rate: float = 1e-2
    optimizer: OptimizerName = "adam"
    batch_size: int = 4
    classes: int = 16

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        check_number("cocoop.prompt_share", self.prompt_share, high=1.0)
        check_number("cocoop.image_weight", self.image_weight)
        check_number("cocoop.shortlist", self.shortlist, low=1)
        check_settings("cocoop", self._settings)

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        return replace(self, **self._choose(problem, seed=seed, training_cache=training_cache)._asdict())

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> CocoopClassifier:
        """See `Method.fit`."""
        point, weights = (
            self._choose(problem, seed=seed, training_cache=training_cache),
            self._weights(problem, seed=seed, training_cache=training_cache),
        )
        tower = require_text_tower(problem)
        prompts = tower.prompts(problem.label_space.prompt_names, context=len(weights["context"]))
        return CocoopClassifier(
            ids=prompts.ids,
            slots=prompts.slots,
            weights=weights,
            learned=self._rows(problem, weights),
            text=problem.class_embeddings,
            means=class_means_of(problem),
            prompt_share=point.prompt_share,
            image_weight=point.image_weight,
            shortlist=self.shortlist,
            logit_scale=problem.logit_scale,
            text_tower=tower,
        )

    def pretrain_fold(self, split: Split, *, seed: int, training_cache: TrainingCache) -> None:
        """See `TrainedMethod.pretrain_fold`."""
        self._weights(split.problem, seed=seed, training_cache=training_cache)

    def _choose(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> RowsPoint:
        def learned(part: Problem) -> Tensor:
            return self._rows(part, self._weights(part, seed=seed, training_cache=training_cache))

        return choose_rows(
            problem,
            learned,
            prompt_share=self.prompt_share,
            image_weight=self.image_weight,
            folds=self.folds,
            seed=seed,
        )

    def _rows(self, problem: Problem, weights: State) -> Tensor:
        """Return the image-independent rows, [K, D] float32, unit rows."""
        names = problem.label_space.prompt_names
        return context_rows(require_text_tower(problem), names, weights["context"] + weights["shift"])

    def _weights(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> State:
        """See `CocoopClassifier.weights`."""
        tower, settings = require_text_tower(problem), self._settings

        def train() -> State:
            shots = Shots.from_problem(problem)
            names = problem.label_space.prompt_names_of(shots.classes.tolist())
            weights = learn_shifted_context(
                tower, names, shots.views, shots.labels, settings, logit_scale=problem.logit_scale, seed=seed
            )
            return weights | {"shift": mean_shift(weights, shots)}

        return training_cache(training_key("cocoop", problem, seed=seed, **asdict(settings)), train)

    @property
    def _settings(self) -> ContextTrainingSettings:
        return ContextTrainingSettings(
            position="end", class_specific=False, **values_for(ContextTrainingSettings, self)
        )


def mean_shift(weights: Weights, shots: Shots) -> Tensor:
    """Return the mean shift of the context over the shots, [w] float32; 0 without any."""
    features = normalize(shots.views[:, 0], dim=1)
    return shifts(weights, features).sum(dim=0) / max(1, len(features))
