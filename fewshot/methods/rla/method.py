"""RLA as a method: one training, and two hyperparameters chosen after it on held-out shots.

    logits = s f R^T        f = norm(x + r x Z),  R_k = norm(T_k + c norm(sum of f over the shots of k))

All classes share the map Z, so a class that has a name and no example profits from the examples of others, and adding
such a class leaves Z unchanged. c and r are ours, and chosen inside the shots in closed form. c = 0 and r = 1 is the
paper's classifier, which fails where names say nothing; c alone (`fewshot.prototypes.with_means`) is nearest class
mean, and stays where images are about as different in all directions, so that no map helps.

Where we differ from the paper in training: `functional` has the second loss, `training` the optimiser. The paper takes
one of 300 augmented views in each step; here every stored view is a row, and by default there is only the image itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import groupby, product
from typing import ClassVar, NamedTuple, Self

from torch import Tensor

from fewshot.key_value_cache.kernel import Cache
from fewshot.methods.hyperparameters import check_count, check_number, values_for
from fewshot.methods.rla.functional import mapped
from fewshot.methods.rla.training import RlaSettings, train_shift
from fewshot.model_selection.cross_validation import FOLDS, Split, select_point
from fewshot.optimization.training_cache import TrainingCache, no_cache, training_key
from fewshot.problem import Problem
from fewshot.prototypes import IMAGE_WEIGHTS, default_image_weight, text_logits, with_means

MAP_SHARES = (0.0, 0.5, 1.0)


class RlaPoint(NamedTuple):
    """A point of the grid."""

    map_share: float
    image_weight: float


@dataclass(frozen=True, slots=True)
class RlaClassifier:
    """A map of the features, and the rows that its output is compared with.

    Attributes:
        shift: [D, D] float32, what the map adds to a feature.
        rows: [K, D] float32, unit rows.
        logit_scale: the backbone's.
    """

    shift: Tensor
    rows: Tensor
    logit_scale: float

    def logits(self, features: Tensor) -> Tensor:
        """See `Classifier.logits`."""
        return text_logits(mapped(features, self.shift), self.rows, logit_scale=self.logit_scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rla:
    """Hyperparameters of RLA; None is chosen inside the shots.

    Attributes:
        map_share: share r of the learned map beside the identity, in [0, 1]; 1 as in the paper.
        image_weight: weight of the class mean (of mapped examples) beside the text, >= 0; 0 is the classifier of the
            paper.
        penalty: weight of the squared distance of the map from the identity, times the shots of a class, >= 0; 1 as in
            the paper.
        image_loss: weight of the cross-entropy against the class means in training, >= 0; 0 as in the paper.
        steps: steps of the optimiser at most, >= 0; with 0 the map is the identity.
    """

    name: ClassVar[str] = "rla"
    classifier_type: ClassVar[type[RlaClassifier]] = RlaClassifier
    folds: ClassVar[int] = FOLDS

    map_share: float | None = None
    image_weight: float | None = None
    penalty: float = RlaSettings.penalty
    image_loss: float = RlaSettings.image_loss
    steps: int = RlaSettings.steps

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        check_number("rla.map_share", self.map_share, high=1.0)
        check_number("rla.image_weight", self.image_weight)
        check_number("rla.penalty", self.penalty, high=1e12)
        check_number("rla.image_loss", self.image_loss, high=1e6)
        check_count("rla.steps", self.steps)

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        return replace(self, **self._choose(problem, seed=seed, training_cache=training_cache)._asdict())

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> RlaClassifier:
        """See `Method.fit`."""
        point = self._choose(problem, seed=seed, training_cache=training_cache)
        shift = point.map_share * self._shift(problem, training_cache)
        return RlaClassifier(shift, _rows(problem, shift, point.image_weight), problem.logit_scale)

    def pretrain_fold(self, split: Split, *, seed: int, training_cache: TrainingCache) -> None:
        """See `TrainedMethod.pretrain_fold`. Nothing is drawn, so that the seed has no influence."""
        del seed
        self._shift(split.problem, training_cache)

    def _choose(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> RlaPoint:
        def sweep(split: Split, points: Collection[RlaPoint]) -> Iterator[tuple[RlaPoint, Tensor]]:
            part, learned = split.problem, self._shift(split.problem, training_cache)
            for share, group in groupby(sorted(points), key=lambda point: point.map_share):
                shift = share * learned
                features = mapped(split.queries.features, shift)
                for point in group:
                    rows = _rows(part, shift, point.image_weight)
                    yield point, text_logits(features, rows, logit_scale=part.logit_scale)

        return select_point(self._grid(), problem, sweep, default=self._default, seed=seed, folds=self.folds)

    def _grid(self) -> list[RlaPoint]:
        """List the most zero-shot-like points first."""
        shares = MAP_SHARES if self.map_share is None else (self.map_share,)
        weights = IMAGE_WEIGHTS if self.image_weight is None else (self.image_weight,)
        return [RlaPoint(share, weight) for share, weight in product(shares, weights)]

    def _default(self, problem: Problem) -> RlaPoint:
        return RlaPoint(
            map_share=1.0 if self.map_share is None else self.map_share,
            image_weight=default_image_weight(problem) if self.image_weight is None else self.image_weight,
        )

    def _shift(self, problem: Problem, training_cache: TrainingCache) -> Tensor:
        settings = RlaSettings(**values_for(RlaSettings, self))
        key = training_key("rla", problem, seed=0, **asdict(settings))
        return training_cache(key, lambda: {"shift": train_shift(problem, settings=settings)})["shift"]


def _rows(problem: Problem, shift: Tensor, image_weight: float) -> Tensor:
    """Return the text beside the means of the mapped shots, [K, D] float32, unit rows."""
    cache = Cache.from_problem(problem)
    return with_means(problem.class_embeddings, mapped(cache.keys, shift), cache.counts, image_weight=image_weight)
