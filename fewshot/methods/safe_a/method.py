"""SAFE-A (arXiv 2311.04464) as a method: first SAFE, which then stays as it is; then an adapter on its features.

Keys and training features of the adapter are the blended ones of the deterministic view, the only one whose tokens are
kept. Both parts share the training of SAFE and its choice on held-out shots; the weight of the adapter is chosen after
it, on the same shots. Only the abstract of the paper was available: which adapter, and that it is trained after the
layer, are decisions made here; `joint` is the other reading.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from torch import Tensor

from fewshot.attention_pooling.blend import BlendKind, BlendPoint, Branches, adapted_problem, blended_features
from fewshot.attention_pooling.joint_training import JOINT_ADAPTERS, PREFIX, tune_jointly
from fewshot.attention_pooling.pool_training import require_pooling
from fewshot.feature_adapter import STEPS
from fewshot.key_value_cache.cache_classifier import CachePoint
from fewshot.key_value_cache.grids import default_beta
from fewshot.methods.blended_pooling import BlendedPooling
from fewshot.methods.hyperparameters import check_choice, check_count, check_number
from fewshot.methods.safe_a.adapters import ADAPTERS, Adapter
from fewshot.model_selection.cross_validation import Split, select_point
from fewshot.optimization.training_cache import State, TrainingCache, no_cache, training_key
from fewshot.problem import Problem

if TYPE_CHECKING:
    from fewshot.backbones.pooling import Pooling

AdapterName = Literal["bottleneck", "cache", "tuned_cache"]


@dataclass(frozen=True, slots=True)
class SafeAClassifier:
    """The classifier of SAFE with an adapter.

    Attributes:
        rows: [K, D] float32, unit rows.
        weights: the tuned tensors of the layer.
        pooling: the frozen layer.
        blend_alpha: share of the tuned layer.
        blend: "normalized" or "raw", see `fewshot.attention_pooling.blend`.
        adapter: the kind of adapter, see `fewshot.methods.safe_a.adapters`.
        tensors: its learned tensors.
        alpha: its weight; 0 is SAFE.
        beta: how fast its votes fall with the distance.
        logit_scale: the backbone's.
    """

    rows: Tensor
    weights: Mapping[str, Tensor]
    pooling: Pooling
    blend_alpha: float
    blend: BlendKind
    adapter: AdapterName
    tensors: Mapping[str, Tensor]
    alpha: float
    beta: float
    logit_scale: float

    def pool(self, dense: Tensor) -> Tensor:
        """See `PoolingClassifier.pool`."""
        return blended_features(self.pooling, dense, self.weights, blend_alpha=self.blend_alpha, kind=self.blend)

    def logits(self, features: Tensor) -> Tensor:
        """See `Classifier.logits`."""
        point = CachePoint(self.alpha, self.beta)
        return ADAPTERS[self.adapter].logits(features, self.rows, self.tensors, point, self.logit_scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeA(BlendedPooling):
    """Hyperparameters of SAFE, see `BlendedPooling`, and of the adapter; None is chosen inside the shots.

    Attributes:
        adapter: the kind of adapter, see `fewshot.methods.safe_a.adapters`.
        alpha: weight of the adapter, >= 0; 0 is SAFE.
        beta: how fast its votes fall with the distance, >= 0.
        steps: steps of its training, at most; with `joint`, those of the layer count.
        joint: train it together with the layer instead of after it, see `fewshot.attention_pooling.joint_training`.
    """

    name: ClassVar[str] = "safe_a"
    classifier_type: ClassVar[type[SafeAClassifier]] = SafeAClassifier

    adapter: AdapterName = "tuned_cache"
    alpha: float | None = None
    beta: float | None = None
    steps: int = STEPS
    joint: bool = False

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: a value is out of its range.
        """
        BlendedPooling.__post_init__(self)
        check_number("safe_a.alpha", self.alpha)
        check_number("safe_a.beta", self.beta)
        check_count("safe_a.steps", self.steps)
        check_choice("safe_a.adapter", self.adapter, ADAPTERS)
        if self.joint:
            check_choice("safe_a.adapter with joint = true", self.adapter, JOINT_ADAPTERS)

    def tuned(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> State:
        """See `BlendedPooling.tuned`."""
        if not self.joint:
            return BlendedPooling.tuned(self, problem, seed=seed, training_cache=training_cache)
        both = self._trained_jointly(problem, seed=seed, training_cache=training_cache)
        return {name: value for name, value in both.items() if not name.startswith(PREFIX)}

    def select(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> Self:
        """See `Method.select`."""
        blend = self.choose_blend(problem, seed=seed, training_cache=training_cache)
        point = self._choose(problem, blend, seed=seed, training_cache=training_cache)
        return replace(self, **blend._asdict(), **point._asdict())

    def fit(self, problem: Problem, *, seed: int, training_cache: TrainingCache = no_cache) -> SafeAClassifier:
        """See `Method.fit`."""
        blend = self.choose_blend(problem, seed=seed, training_cache=training_cache)
        point = self._choose(problem, blend, seed=seed, training_cache=training_cache)
        blended = self._blended_problem(problem, blend, seed=seed, training_cache=training_cache)
        tensors = self._learned(problem, blended, seed=seed, training_cache=training_cache)
        return SafeAClassifier(
            rows=blended.class_embeddings,
            weights=self.tuned(problem, seed=seed, training_cache=training_cache),
            pooling=require_pooling(problem)[0],
            blend_alpha=blend.blend_alpha,
            blend=self.blend,
            adapter=self.adapter,
            tensors=tensors,
            alpha=point.alpha,
            beta=point.beta,
            logit_scale=problem.logit_scale,
        )

    @property
    def _adapter(self) -> Adapter:
        return ADAPTERS[self.adapter]

    def _trained_jointly(self, problem: Problem, *, seed: int, training_cache: TrainingCache) -> State:
        adapter, settings = self.adapter, self.settings
        assert adapter != "cache"
        key = training_key("safe_a_joint", problem, seed=seed, adapter=adapter, **asdict(settings))
        return training_cache(
            key, lambda: tune_jointly(problem, adapter, self.targets(problem), settings=settings, seed=seed)
        )

    def _learned(self, problem: Problem, blended: Problem, *, seed: int, training_cache: TrainingCache) -> State:
        """Return the tensors of the adapter. `blended` is the problem with blended features."""
        if self.joint:
            both = self._trained_jointly(problem, seed=seed, training_cache=training_cache)
            learned = {name.removeprefix(PREFIX): value for name, value in both.items() if name.startswith(PREFIX)}
            return learned if self.adapter == "bottleneck" else {**learned, "counts": problem.counts}
        adapter = self._adapter
        if not adapter.trained:
            return adapter.learn(blended, seed, self.steps)
        key = training_key("safe_a", blended, seed=seed, adapter=self.adapter, steps=self.steps)
        return training_cache(key, lambda: adapter.learn(blended, seed, self.steps))

    def _blended_problem(
        self, problem: Problem, blend: BlendPoint, *, seed: int, training_cache: TrainingCache
    ) -> Problem:
        return adapted_problem(
            problem, self.tuned(problem, seed=seed, training_cache=training_cache), blend, kind=self.blend
        )

    def _choose(self, problem: Problem, blend: BlendPoint, *, seed: int, training_cache: TrainingCache) -> CachePoint:
        def measure(split: Split, points: Collection[CachePoint]) -> Iterator[tuple[CachePoint, Tensor]]:
            learned = split.problem
            blended = self._blended_problem(learned, blend, seed=seed, training_cache=training_cache)
            queries = Branches.from_problem(
                learned, split.queries, self.tuned(learned, seed=seed, training_cache=training_cache)
            )
            features = queries.blended(blend_alpha=blend.blend_alpha, kind=self.blend)
            tensors = self._learned(learned, blended, seed=seed, training_cache=training_cache)
            return self._adapter.sweep(features, blended.class_embeddings, tensors, points, problem.logit_scale)

        return select_point(self._grid(problem), problem, measure, default=self._default, seed=seed, folds=self.folds)

    def _default(self, problem: Problem) -> CachePoint:
        """Return SAFE where nothing can be held out: its class rows contain the means of the shots already."""
        return CachePoint(
            alpha=0.0 if self.alpha is None else self.alpha,
            beta=default_beta(problem.support.cache_keys) if self.beta is None else self.beta,
        )

    def _grid(self, problem: Problem) -> list[CachePoint]:
        """Return the grid of the adapter, with given values instead of those to try."""
        points = (
            CachePoint(
                alpha=point.alpha if self.alpha is None else self.alpha,
                beta=point.beta if self.beta is None else self.beta,
            )
            for point in self._adapter.grid(problem)
        )
        return list(dict.fromkeys(points))
