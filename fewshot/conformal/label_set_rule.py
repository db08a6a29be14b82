"""The rule that gives images their label sets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.conformal.adaptation import ConformalExamples, label_sets, rejected_ranks

ROWS = 256
"""Images whose ranks are held in memory at a time."""


@dataclass(frozen=True, slots=True)
class LabelSetRule:
    """Examples, and the share of sets that may lack the true label.

    Attributes:
        examples: N examples of K classes.
        max_error: probability of a set without the true label, in (0, 1), see `label_sets`.
    """

    examples: ConformalExamples
    max_error: float

    def __post_init__(self) -> None:
        """Check the share.

        Raises:
            DataError: it is out of range.
        """
        rejected_ranks(len(self.examples), share=self.max_error)

    def sets(self, views: Tensor) -> Tensor:
        """Return the label sets of images.

        Args:
            views: [B, D] float32, raw encoder outputs of the deterministic views, as those of the examples.

        Returns:
            [B, K] bool. A row depends on that row of `views` only.
        """
        N, K = len(self.examples), len(self.examples.text)
        if not rejected_ranks(N, share=self.max_error):
            return torch.ones(len(views), K, dtype=torch.bool)
        images = normalize(views.double(), dim=1)
        found = [self.examples.ranks(block) for block in torch.split(images, ROWS)]
        return torch.cat([label_sets(ranks, examples=N, max_error=self.max_error) for ranks in found])
