"""Full conformal adaptation (Silva-Rodriguez et al. 2025, IPMI): the same examples adapt a head and calibrate it.

The head is SS-Text's, which has a closed form: a class is its text beside the sum of its examples.

    logits(x)_k = s x . unit(r t_k + S_k)        S_k: sum of the unit features of class k, r = 1 / s as published

For an image x and each label y, (x, y) joins the examples. Each of these N + 1 images is scored by the head of the N
others: its score is log p / (1 - p) of its own label, a monotone function of the published 1 - p that stays exact where
p is close to 1. The rank of x, the number of images with a score that is not higher, itself included, is equally likely
to be any of 1 ... N + 1 if the images are exchangeable and y is the label of x; `label_sets` rejects the lowest ranks.
Nothing is held out, and nothing is chosen on the examples, which would treat them unlike x.

Where it differs from the authors' code:

* An image is scored without itself. Theirs scores each image by a head that contains it. Both are exact if the images
  are exchangeable, but examples are mostly drawn class by class: then the class of x has an image more than the others,
  each of which is a smaller part of its class mean. Measured with one example of each of 81 classes (Grocery) and a
  promise of 90 %, their sets contain the true label in 46 % of the cases, with four in 81 %. Scored without itself, x
  has at least as many images of its class to be compared with as any example has, and the error is on the safe side.
* Features are scaled to unit length before they are summed. The text always weighs 1 / s of an example; in the authors'
  code a floor of 1e-3 makes it weigh more from 1,000 examples on.
* Column y alone changes with (x, y), so that an image costs O(N D + N K), no solution and no pass over all columns.

The promise is marginal: over images of all classes, and over draws of the examples. It is none for each class, none for
the sets of exactly one label, of which more than the promised share may be wrong, and none if the archive differs from
the examples, such as in how often a class occurs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.errors import DataError
from fewshot.optimization.content_order import by_content
from fewshot.problem import Problem

BLOCK_ROWS = 16
"""Most images at a time."""
BLOCK_SCORES = 2**21
"""Most scores of examples, for all labels, at a time: 16 MiB in float64."""
TIE = 1e-10
"""Scores count as equal within this share of the logit scale: what rounding makes of equal images."""
LEAST_SQUARE = 1e-24
"""Square of a length that counts as 0: such a class has logits of 0."""


@dataclass(frozen=True, slots=True)
class ConformalExamples:
    """Labelled examples with the text of the classes: all that ranks of labels are made of.

    Attributes:
        features: [N, D] float64, unit rows.
        labels: [N] int64 in [0, K).
        text: [K, D] float64, unit rows.
        logit_scale: s > 0.
    """

    features: Tensor
    labels: Tensor
    text: Tensor
    logit_scale: float

    def __post_init__(self) -> None:
        """Check the scale.

        Raises:
            DataError: it is not positive.
        """
        if not self.logit_scale > 0.0:
            raise DataError(f"the logit scale must be positive, got {self.logit_scale:g}")

    @classmethod
    def from_problem(cls, problem: Problem) -> Self:
        """Return the shots of a problem, in the order of their content; `problem.val` is not used."""
        support = problem.support[by_content(problem.support)]
        text = normalize(problem.class_embeddings.double(), dim=1)
        features = normalize(support.features.double(), dim=1)  # Rounded first, as those of images.
        return cls(features, support.labels, text, problem.logit_scale)

    def __len__(self) -> int:
        """N."""
        return len(self.labels)

    def ranks(self, images: Tensor) -> Tensor:
        """Return the rank of each image for each label, see the module.

        Args:
            images: [B, D], unit rows.

        Returns:
            [B, K] int64 in [1, N + 1]; a low one speaks against the label. A row depends on that row of `images` only.
        """
        head = _Head.of(self)
        rows = max(1, min(BLOCK_ROWS, BLOCK_SCORES // max(1, len(self) * len(self.text))))
        blocks = [_padded(normalize(block.double(), dim=1), rows) for block in torch.split(images, rows)]
        found = [self._block_ranks(head, block) for block in blocks]
        return torch.cat(found)[: len(images)] if found else self.labels.new_zeros(0, len(self.text))

    def _block_ranks(self, head: _Head, images: Tensor) -> Tensor:
        """Return ranks [B, K] of images [B, D]."""
        s, own = self.logit_scale, self.labels
        dots, cosines = images @ head.weight.T, images @ self.features.T  # [B, K], [B, N]
        logits = s * dots * head.squares.rsqrt()
        scores = logits - _excluding_each(logits)

        squares = _safe(head.squares + 2.0 * dots + 1.0)  # of columns that the image has joined
        joined = s * (head.dots + cosines[:, :, None]) * squares.rsqrt()[:, None]  # [B, N, K]
        others = head.own_logits[:, None] - torch.logaddexp(head.rivals, joined)

        own_dots = head.own_dots + cosines  # [B, N]: with the own column, which the image has joined
        without = _safe(squares[:, own] - 2.0 * own_dots + 1.0)
        same = s * (own_dots - 1.0) * without.rsqrt() - head.all_rivals
        others.scatter_(2, own.expand_as(same)[:, :, None], same[:, :, None])
        return 1 + (others <= scores[:, None] + TIE * s).sum(dim=1)


def label_sets(ranks: Tensor, *, examples: int, max_error: float) -> Tensor:
    """Return the labels that are not rejected.

    Sets of a lower `max_error` contain those of a higher one. If the images and the examples are exchangeable, the true
    label is in its set with a probability of at least 1 - max_error, and of at most 1 / (examples + 1) more if no two
    scores are equal. This holds for all images together, not for those of each class.

    Args:
        ranks: [B, K] int64 in [1, examples + 1], see `ConformalExamples.ranks`.
        examples: N, the number of labelled examples behind the ranks.
        max_error: probability of a set without the true label, in (0, 1).

    Returns:
        [B, K] bool.

    Raises:
        DataError: `max_error` is out of range.
    """
    return ranks > rejected_ranks(examples, share=max_error)


def rejected_ranks(examples: int, *, share: float) -> int:
    """Return how many of the N + 1 ranks are rejected, at most the given share of them.

    Args:
        examples: N.
        share: in (0, 1); below 1 / (N + 1), no rank is rejected.

    Raises:
        DataError: `share` is out of range.
    """
    if not 0.0 < share < 1.0:
        raise DataError(f"the share of rejected ranks must lie between 0 and 1, got {share:g}")
    return math.floor(round(share * (examples + 1), 9))  # 0.29 * 100 is a little less than 29


@dataclass(frozen=True, slots=True)
class _Head:
    """The head of all examples, and what scores of examples need that no image changes.

    Attributes:
        weight: [K, D], not normalised: r t_k + S_k.
        squares: [K], squared lengths of the rows of `weight`.
        dots: [N, K], products of examples and weights.
        own_dots: [N], those with the column of the own label.
        own_logits: [N], logits of the own labels, by columns without the example.
        all_rivals: [N], log-sum-exp of the logits of all labels but the own one.
        rivals: [N, K], the same without one further label.
    """

    weight: Tensor
    squares: Tensor
    dots: Tensor
    own_dots: Tensor
    own_logits: Tensor
    all_rivals: Tensor
    rivals: Tensor

    @classmethod
    def of(cls, examples: ConformalExamples) -> Self:
        s, features, own = examples.logit_scale, examples.features, examples.labels[:, None]
        weight = (examples.text / s).index_add(0, examples.labels, features)
        squares, dots = _safe(weight.square().sum(dim=1)), features @ weight.T
        own_dots = dots.gather(1, own).squeeze(1)
        without = _safe(squares[examples.labels] - 2.0 * own_dots + 1.0)
        rivals = (s * dots * squares.rsqrt()).scatter(1, own, -torch.inf)
        return cls(
            weight=weight,
            squares=squares,
            dots=dots,
            own_dots=own_dots,
            own_logits=s * (own_dots - 1.0) * without.rsqrt(),
            all_rivals=torch.logsumexp(rivals, dim=1),
            rivals=_excluding_each(rivals),
        )


def _excluding_each(logits: Tensor) -> Tensor:
    """Return [N, K]: the log-sum-exp of the other entries of the row [N, K]; -inf where there are none above -inf.

    From both ends, since what is left of a sum after its largest term was subtracted is rounding.
    """
    nothing = logits.new_full((len(logits), 1), -torch.inf)
    before = torch.cat([nothing, logits[:, :-1].logcumsumexp(dim=1)], dim=1)
    after = torch.cat([nothing, logits[:, 1:].flip(1).logcumsumexp(dim=1)], dim=1).flip(1)
    return torch.logaddexp(before, after)


def _safe(squares: Tensor) -> Tensor:
    return squares.clamp_min(LEAST_SQUARE)


def _padded(rows: Tensor, count: int) -> Tensor:
    """Return [count, D]: the rows and zeros, as the shape of a product may decide its last bits."""
    return torch.cat([rows, rows.new_zeros(count - len(rows), rows.shape[1])])
