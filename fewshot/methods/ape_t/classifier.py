"""The classifier that APE-T fits."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fewshot.key_value_cache.kernel import class_votes
from fewshot.methods.ape_t.functional import affinity_side, moved_logits, shifts


@dataclass(frozen=True, slots=True)
class ApeTClassifier:
    """Text prototypes and a weighted cache, unchanged, and the residual that moves both.

    Attributes:
        text: [K, D] float32, unit rows.
        keys: [M, D] float32, or [M, Q] with `selected`; unit rows, grouped by class.
        counts: [K] int64, keys of each class.
        weights: [M] float32, weight of each key; of any sign.
        residual: [K, Q] float32.
        channels: [Q] int64, the kept channels, ascending.
        selected: the affinity is on the kept channels alone.
        alpha: weight of the votes.
        beta: how fast a vote falls with the distance.
        logit_scale: the backbone's.
    """

    text: Tensor
    keys: Tensor
    counts: Tensor
    weights: Tensor
    residual: Tensor
    channels: Tensor
    selected: bool
    alpha: float
    beta: float
    logit_scale: float

    def logits(self, features: Tensor) -> Tensor:
        """See `Classifier.logits`."""
        compared = affinity_side(features, self.channels, selected=self.selected)
        votes = class_votes(compared, self.keys, self.counts, beta=self.beta, weights=self.weights)
        moved = shifts(features, self.residual, self.channels, selected=self.selected)
        return moved_logits(
            features, self.text, votes, moved, alpha=self.alpha, beta=self.beta, logit_scale=self.logit_scale
        )
