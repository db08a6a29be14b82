"""CoCoOp as a method: one training, and two hyperparameters chosen after it on held-out shots.

They are chosen with the image-independent prompts, which cost K sequences instead of one for each held-out image and
class of its shortlist.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import normalize

from fewshot.method import require_text_tower
from fewshot.methods.cocoop.classifier import CocoopClassifier
from fewshot.methods.context_learning import ContextLearning
from fewshot.methods.hyperparameters import check_count, values_for
from fewshot.optimization.shots import Shots
from fewshot.optimization.training_cache import State, TrainingCache, no_cache, training_key
from fewshot.problem import Problem
from fewshot.prompt_learning import ContextTrainingSettings, class_means_of
from fewshot.prompt_learning.conditional_context import Weights, learn_shifted_context, shifts
from fewshot.prompt_learning.learning_rate import OptimizerName
from fewshot.prompt_learning.shared_context import context_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Cocoop(ContextLearning):
    """Hyperparameters of CoCoOp, see `ContextLearning`.

    Attributes:
        shortlist: number of classes of an image that get prompts of their own, >= 1; all of them as in the paper.
        context, words, steps, learning_rate, optimizer, batch_size, classes: see
            `fewshot.prompt_learning.ContextTrainingSettings`; a step encodes batch_size · classes sequences.
    """

    name: ClassVar[str] = "cocoop"
    classifier_type: ClassVar[type[CocoopClassifier]] = CocoopClassifier

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
        ContextLearning.__post_init__(self)
        check_count("cocoop.shortlist", self.shortlist, low=1)

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> CocoopClassifier:
        """See `Method.fit`."""
        point = self.choose_shares(problem, seed=seed, training_cache=training_cache)
        weights = self.trained(problem, seed=seed, training_cache=training_cache)
        tower = require_text_tower(problem)
        prompts = tower.prompts(problem.label_space.prompt_names, context=len(weights["context"]))
        return CocoopClassifier(
            ids=prompts.ids,
            slots=prompts.slots,
            weights=weights,
            learned=self.rows(problem, weights),
            text=problem.class_embeddings,
            means=class_means_of(problem),
            prompt_share=point.prompt_share,
            image_weight=point.image_weight,
            shortlist=self.shortlist,
            logit_scale=problem.logit_scale,
            text_tower=tower,
        )

    def rows(self, problem: Problem, state: State) -> Tensor:
        """See `ContextLearning.rows`; they are image-independent."""
        names = problem.label_space.prompt_names
        return context_rows(require_text_tower(problem), names, state["context"] + state["shift"])

    def trained(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> State:
        """See `ContextLearning.trained` and `CocoopClassifier.weights`."""
        tower, settings = require_text_tower(problem), self.settings

        def train() -> State:
            shots = Shots.from_problem(problem)
            names = problem.label_space.prompt_names_of(shots.classes.tolist())
            weights = learn_shifted_context(
                tower, names, shots.views, shots.labels, settings, logit_scale=problem.logit_scale, seed=seed
            )
            return weights | {"shift": mean_shift(weights, shots)}

        return training_cache(training_key("cocoop", problem, seed=seed, **asdict(settings)), train)

    @property
    def settings(self) -> ContextTrainingSettings:
        """See `ContextLearning.settings`."""
        return ContextTrainingSettings(
            position="end", class_specific=False, **values_for(ContextTrainingSettings, self)
        )


def mean_shift(weights: Weights, shots: Shots) -> Tensor:
    """Return the mean shift of the context over the shots, [w] float32; 0 without any."""
    features = normalize(shots.views[:, 0], dim=1)
    return shifts(weights, features).sum(dim=0) / max(1, len(features))
