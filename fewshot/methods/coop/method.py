"""CoOp as a method: one training, and two hyperparameters chosen after it on held-out shots.

By default 16 vectors start at random, the paper's choice for classes that all have examples. For classes without any
the paper starts 4 with "a photo of a". With the embedded CLIP, 16 shots of half of the classes and the prompts alone,
the harmonic mean over both halves is then 0.77 instead of 0.69 on TrashNet, but 0.10 instead of 0.14 on groceries.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

from torch import Tensor

from fewshot.backbones.text_tower import Position
from fewshot.method import require_text_tower
from fewshot.methods.context_learning import ContextLearning
from fewshot.methods.hyperparameters import values_for
from fewshot.optimization.shots import Shots
from fewshot.optimization.training_cache import State, TrainingCache, no_cache, training_key
from fewshot.problem import Problem
from fewshot.prompt_learning import ContextTrainingSettings, blended_rows, class_means_of, context_rows, learn_context
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
class Coop(ContextLearning):
    """Hyperparameters of CoOp, see `ContextLearning`.

    Attributes:
        context, words, position, class_specific, steps, learning_rate, optimizer, batch_size, classes: see
            `fewshot.prompt_learning.ContextTrainingSettings`. With class-specific contexts, a class without examples
            gets the mean of the others.
    """

    name: ClassVar[str] = "coop"
    classifier_type: ClassVar[type[CoopClassifier]] = CoopClassifier

    context: int = 16
    words: str = ""
    position: Position = "end"
    class_specific: bool = False
    steps: int = 40
    learning_rate: float = 1e-2
    optimizer: OptimizerName = "adam"
    batch_size: int = 4096
    classes: int = 32

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> CoopClassifier:
        """See `Method.fit`."""
        point = self.choose_shares(problem, seed=seed, training_cache=training_cache)
        state = self.trained(problem, seed=seed, training_cache=training_cache)
        rows = blended_rows(self.rows(problem, state), problem.class_embeddings, class_means_of(problem), point)
        return CoopClassifier(rows, state["context"], problem.logit_scale)

    def rows(self, problem: Problem, state: State) -> Tensor:
        """See `ContextLearning.rows`."""
        names = problem.label_space.prompt_names
        return context_rows(require_text_tower(problem), names, state["context"], position=self.position)

    def trained(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> State:
        """See `ContextLearning.trained`; "context" is [m, w], or [K, m, w] if it is class-specific."""
        settings = self.settings

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

        return training_cache(training_key("coop", problem, seed=seed, **asdict(settings)), train)

    @property
    def settings(self) -> ContextTrainingSettings:
        """See `ContextLearning.settings`."""
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
