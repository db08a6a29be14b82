"""Tip-X (Udandarao et al. 2022, arXiv 2211.16198, eq. 4-7) as functions of tensors.

    logits = s x W^T + alpha exp(-beta (1 - x F^T)) L + gamma (-psi(D)) L
    D_ij = KL(p_i || q_j)      p_i = softmax(x_i W^T / tau)      q_j = softmax(f_j W^T / tau)

psi maps the range of the divergences D to the range of the cosines x F^T. The whole last term is linear in each key's
D, and D_ij = KL(p_i || uniform) + lme_j - (p_i W) f_j / tau with lme_j = log mean_k exp(f_j w_k / tau). So the keys of
a class collapse to one row and two numbers, and no shot is left at inference. Where we differ from the authors' code:

* It divides by tau and takes log K out of both sides after subtracting the mean text row, which changes no softmax:
  D is of the order of 0.001 (tau = 0.5 on raw cosines), and the difference of two numbers near log K would lose it.
* psi is frozen on the shots; theirs is measured on the batch that is classified, whose images thus depend on each
  other. As in theirs, an image is never compared with the key that is made of it.
* A key votes psi(D_max) - psi(D) >= 0 rather than -psi(D), a constant if all classes have as many shots; and the votes
  of a class are averaged and counted as those of the mean class, which is the sum if they have. Votes that are linear
  are about as large for the wrong class: their sum would count shots, and a class without any, at 0, would win.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softmax

from fewshot.key_value_cache.kernel import MEMORY_BYTES, segment_sum
from fewshot.optimization.content_order import by_content, image_ids
from fewshot.problem import Problem

MAX_QUERIES = 1024
"""Shots whose divergences from all keys give the range of D."""


@dataclass(frozen=True, slots=True)
class Signatures:
    """The similarities of an image to the class names, as a distribution over the classes.

    Attributes:
        text: [K, D] float32: the text prototypes less their mean, over tau.
    """

    text: Tensor

    @classmethod
    def from_text(cls, text: Tensor, *, tau: float) -> Signatures:
        """Make them from text prototypes [K, D], unit rows, and the temperature of raw cosines, > 0."""
        return cls((text - text.mean(dim=0)) / tau)

    def log_mean_exp(self, features: Tensor) -> Tensor:
        """Return log mean_k exp(f w_k / tau) for features [B, D]; [B] float32."""
        return torch.logsumexp(features @ self.text.T, dim=1) - math.log(len(self.text))

    def expected_text(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return p W / tau [B, D] and KL(p || uniform) [B] in nats, >= 0 up to rounding, for features [B, D]."""
        logits = features @ self.text.T
        share = softmax(logits, dim=1)
        mean = torch.logsumexp(logits, dim=1) - math.log(len(self.text))
        return share @ self.text, (share * logits).sum(dim=1) - mean

    def divergences(self, features: Tensor, keys: Tensor) -> Tensor:
        """Return KL(p_i || q_j) in nats for features [B, D] and keys [M, D]; [B, M] float32."""
        expected, certainty = self.expected_text(features)
        return certainty[:, None] + self.log_mean_exp(keys) - expected @ keys.T


@dataclass(frozen=True, slots=True)
class Contrast:
    """The collapsed last term: the votes of a class's keys by divergence, gamma = 1.

    Attributes:
        rows: [K, D] float32.
        offsets: [K] float32.
        certainty: [K] float32, the weight of KL(p || uniform), which is subtracted. A class without keys has 0 in all
            three.
    """

    rows: Tensor
    offsets: Tensor
    certainty: Tensor

    def votes(self, features: Tensor, signatures: Signatures) -> Tensor:
        """Return the votes for features [B, D], unit rows; [B, K] float32."""
        expected, certainty = signatures.expected_text(features)
        return torch.addmm(self.offsets - certainty[:, None] * self.certainty, expected, self.rows.T)


class Psi(NamedTuple):
    """The affine map of divergences to cosines: its slope, >= 0, and the divergence that becomes the largest cosine."""

    slope: float
    highest: float


def collapse(
    keys: Tensor, counts: Tensor, signatures: Signatures, psi: Psi, *, memory_bytes: int = MEMORY_BYTES
) -> Contrast:
    """Collapse the keys of each class.

    Args:
        keys: [M, D] float32, unit rows, grouped by class.
        counts: [K] int64 with sum M.
        signatures: of the text.
        psi: its largest divergence votes 0.
        memory_bytes: budget of the cosines with the text.
    """
    block = max(1, memory_bytes // (4 * len(counts)))
    log_means = torch.cat([keys.new_zeros(0), *(signatures.log_mean_exp(part) for part in torch.split(keys, block))])
    present = counts > 0
    weight = psi.slope * len(keys) / max(1, int(present.sum())) / counts.clamp(min=1)
    offsets = weight * (psi.highest * counts - segment_sum(log_means[:, None], counts).squeeze(1))
    return Contrast(weight[:, None] * segment_sum(keys, counts), offsets, weight * counts)


def frozen_psi(problem: Problem, signatures: Signatures, *, memory_bytes: int = MEMORY_BYTES) -> Psi:
    """Measure both ranges on the shots: deterministic views against keys, without an image and its own key.

    Args:
        problem: at most `MAX_QUERIES` of its shots, the first by content, are compared with all keys.
        signatures: of its text.
        memory_bytes: budget of the pairs held at a time.

    Returns:
        slope 0 when there are no two different images.
    """
    shots = problem.support[by_content(problem.support)]
    keys, features, ids = shots.cache_keys, shots.features, image_ids(shots)
    block = max(1, memory_bytes // (4 * max(len(keys), problem.num_classes)))
    low, high = [math.inf, math.inf], [-math.inf, -math.inf]
    for rows in torch.split(torch.arange(len(shots))[:MAX_QUERIES], block):
        others = ids[rows, None] != ids
        pairs = (features[rows] @ keys.T, signatures.divergences(features[rows], keys))
        for kind, values in enumerate(values[others] for values in pairs if others.any()):
            low[kind] = min(low[kind], float(values.min()))
            high[kind] = max(high[kind], float(values.max()))
    cosines, divergences = high[0] - low[0], high[1] - low[1]
    return Psi(cosines / divergences, high[1]) if divergences > 0.0 else Psi(0.0, 0.0)
