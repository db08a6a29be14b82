"""The classifier that Tip-X fits."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fewshot.key_value_cache.cache_classifier import cache_logits
from fewshot.methods.tip_x.functional import Contrast, Signatures


@dataclass(frozen=True, slots=True)
class TipXClassifier:
    """A cache, and one more row for each class (`functional.Contrast`).

    Attributes:
        text: [K, D] float32, unit rows.
        keys: [M, D] float32, unit rows, grouped by class.
        counts: [K] int64, keys of each class.
        rows: [K, D] float32.
        offsets: [K] float32.
        certainty: [K] float32.
        alpha: weight of the votes by cosine.
        beta: how fast they fall with the distance.
        gamma: weight of the votes by divergence.
        tau: temperature of the cosines with the text.
        logit_scale: the backbone's.
    """

    text: Tensor
    keys: Tensor
    counts: Tensor
    rows: Tensor
    offsets: Tensor
    certainty: Tensor
    alpha: float
    beta: float
    gamma: float
    tau: float
    logit_scale: float

    def logits(self, features: Tensor) -> Tensor:
        """See `Classifier.logits`."""
        logits = cache_logits(
            features, self.text, self.keys, self.counts, alpha=self.alpha, beta=self.beta, logit_scale=self.logit_scale
        )
        if self.gamma == 0.0:
            return logits
        contrast = Contrast(self.rows, self.offsets, self.certainty)
        return logits.add_(contrast.votes(features, Signatures.from_text(self.text, tau=self.tau)), alpha=self.gamma)
