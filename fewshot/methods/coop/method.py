"""CoOp as a method: one training, and two hyperparameters chosen after it on held-out shots.

By default 16 vectors start at random, the paper's choice for classes that all have examples. For classes without any
the paper starts 4 with "a photo of a". With the embedded CLIP, 16 shots of half of the classes and the prompts alone,
the harmonic mean over both halves is then 0.77 instead of 0.69 on TrashNet, but 0.10 instead of 0.14 on groceries.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import ClassVar, Self

from torch import Tensor

from fewshot.backbones.text_tower import Position
from fewshot.method import require_text_tower
from fewshot.methods.context_recipe import check_settings
from fewshot.methods.hyperparameters import check_number, values_for
from fewshot.model_selection.cross_validation import Split
from fewshot.optimization.shots import Shots
from fewshot.optimization.training_cache import State, TrainingCache, no_cache, training_key
from fewshot.problem import Problem
from fewshot.prompt_learning import (
    ContextTrainingSettings,
    RowsPoint,
    blended_rows,
    class_means_of,
    context_rows,
    learn_context,
)
from fewshot.prompt_learning.context_rows import choose_rows
from fewshot.prompt_learning.learning_rate import OptimizerName
from fewshot.prototypes import text_logits


@dataclass(frozen=True, slots=True)
class CoopClassifier:
    """A row for each class, and the context that it was made with.

    Attributes:
        rows: [K, D] float32, unit rows.
        context: [m, w] float32, for names that are yet to come (`fewshot.prompt_learning.context_rows`); [K, m, w] if
            it is class-specific.
        logit_scale: the backbone's.
    """

    rows: Tensor
    context: Tensor
    logit_scale: float

    def logits(self, features: Tensor) -> Tensor:
        """See `Classifier.logits`."""
        return text_logits(features, self.rows, logit_scale=self.logit_scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coop:
    """Hyperparameters of CoOp; None is chosen inside the shots.

    Attributes:
        prompt_share: share of the learned rows beside the prompt prototypes, in [0, 1]; 1 as in the paper.
        image_weight: weight of the class mean beside its row, >= 0; 0 as in the paper.
        context, words, position, class_specific, steps, learning_rate, optimizer, batch_size, classes: see
            `fewshot.prompt_learning.ContextTrainingSettings`. With class-specific contexts, a class without examples
            gets the mean of the others.
    """

    name: ClassVar[str] = "coop"
    classifier_type: ClassVar[type[CoopClassifier]] = CoopClassifier
    folds: ClassVar[int] = 1

    prompt_share: float | None = None
    image_weight: float | None = None
    context: int = 16
    words: str = ""
    position: Position = "end"
    class_specific: bool = False
    steps: int = 40
    learning_rate: float = 1e-2
    optimizer: OptimizerName = "adam"
    batch_size: int = 4096
    classes: int = 32

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        check_number("coop.prompt_share", self.prompt_share, high=1.0)
        check_number("coop.image_weight", self.image_weight)
        check_settings("coop", self._settings)

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        return replace(self, **self._choose(problem, seed=seed, training_cache=training_cache)._asdict())

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> CoopClassifier:
        """See `Method.fit`."""
        point, context = (
            self._choose(problem, seed=seed, training_cache=training_cache),
            self._context(problem, seed=seed, training_cache=training_cache),
        )
        learned = self._rows(problem, context)
        rows = blended_rows(learned, problem.class_embeddings, class_means_of(problem), point)
        return CoopClassifier(rows, context, problem.logit_scale)

    def pretrain_fold(self, split: Split, *, seed: int, training_cache: TrainingCache) -> None:
        """See `TrainedMethod.pretrain_fold`."""
        self._context(split.problem, seed=seed, training_cache=training_cache)

    def _choose(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> RowsPoint:
        def learned(part: Problem) -> Tensor:
            return self._rows(part, self._context(part, seed=seed, training_cache=training_cache))

        return choose_rows(
            problem,
            learned,
            prompt_share=self.prompt_share,
            image_weight=self.image_weight,
            folds=self.folds,
            seed=seed,
        )

    def _rows(self, problem: Problem, context: Tensor) -> Tensor:
        names = problem.label_space.prompt_names
        return context_rows(require_text_tower(problem), names, context, position=self.position)

    def _context(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> Tensor:
        """Return the learned context, [m, w], or [K, m, w] if it is class-specific."""
        settings = self._settings

        def train() -> State:
            shots = Shots.from_problem(problem)
            names = problem.label_space.prompt_names_of(shots.classes.tolist())
            context = learn_context(
                require_text_tower(problem),
                names,
                shots.views,
                shots.labels,
                settings,
                logit_scale=problem.logit_scale,
                seed=seed,
            )
            return {"context": for_all(context, shots.classes, num_classes=problem.num_classes)}

        return training_cache(training_key("coop", problem, seed=seed, **asdict(settings)), train)["context"]

    @property
    def _settings(self) -> ContextTrainingSettings:
        return ContextTrainingSettings(**values_for(ContextTrainingSettings, self))


def for_all(context: Tensor, classes: Tensor, *, num_classes: int) -> Tensor:
    """Return a context for each of K classes; those that were not learned get the mean of the others.

    Args:
        context: [k, m, w] float32, learned; or [m, w], the same for all.
        classes: [k] int64, the classes it was learned for.
        num_classes: K.
    """
    if context.ndim == 2:
        return context
    spread = context.mean(dim=0).repeat(num_classes, 1, 1)
    return spread.index_copy_(0, classes, context)
