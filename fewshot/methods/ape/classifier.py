"""The classifier that APE fits."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fewshot.key_value_cache.channels import on_channels
from fewshot.key_value_cache.kernel import class_votes
from fewshot.prototypes import text_logits


@dataclass(frozen=True, slots=True)
class ApeClassifier:
    """Text prototypes, and a weighted cache on the kept channels.

    Attributes:
        text: [K, D] float32, unit rows.
        keys: [M, Q] float32, unit rows on the kept channels, grouped by class.
        counts: [K] int64, keys of each class.
        weights: [M] float32, weight of each key.
        channels: [Q] int64, the kept channels, ascending.
        alpha: weight of the votes.
        beta: how fast a vote falls with the distance.
        logit_scale: the backbone's.
    """

    text: Tensor
    keys: Tensor
    counts: Tensor
    weights: Tensor
    channels: Tensor
    alpha: float
    beta: float
    logit_scale: float

    def logits(self, features: Tensor) -> Tensor:
        """See `Classifier.logits`."""
        zero_shot = text_logits(features, self.text, logit_scale=self.logit_scale)
        if self.alpha == 0.0:
            return zero_shot
        refined = on_channels(features, self.channels)
        votes = class_votes(refined, self.keys, self.counts, beta=self.beta, weights=self.weights)
        return zero_shot.add_(votes, alpha=self.alpha)
