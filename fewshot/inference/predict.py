"""Labels for features, tile by tile.

A matrix product may round a row differently when there are more or fewer rows beside it. So every tile has the same
shape (the last one is filled up), and the bytes of a row do not depend on how many rows are asked about with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from fewshot.calibration.calibrated_classifier import CalibratedClassifier

TILE_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions of N images, on the CPU.

    Attributes:
        label: [N] int64, the most probable class; of equals the lowest.
        score: [N] float32, its calibrated probability.
        margin: [N] float32, its lead over the second.
        top_labels: [N, min(top, K)] int64, the most probable first.
        top_scores: [N, min(top, K)] float32.
        abstained: [N] bool: the score is below the threshold.
    """

    label: Tensor
    score: Tensor
    margin: Tensor
    top_labels: Tensor
    top_scores: Tensor
    abstained: Tensor

    def __len__(self) -> int:
        """N."""
        return len(self.label)

    @classmethod
    def concatenate(cls, parts: list[Self]) -> Self:
        """All rows of at least one part, in order."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in cls.__slots__))


def predict(
    calibrated: CalibratedClassifier, features: Tensor, *, top: int = 5, tile_rows: int = TILE_ROWS
) -> Predictions:
    """Label images.

    Args:
        calibrated: what to label with; the work happens on its device.
        features: [N, D] float32, unit rows, on any device.
        top: how many classes to report, >= 1.
        tile_rows: rows of a matrix product; part of what determines the last bits of a score.

    Returns:
        N predictions. A row depends on nothing but that row of `features`.
    """
    starts = range(0, max(1, len(features)), tile_rows)
    return Predictions.concatenate(
        [
            _scored_tile(calibrated, features[start : start + tile_rows], top=top, tile_rows=tile_rows)
            for start in starts
        ]
    )


def calibrated_logits(calibrated: CalibratedClassifier, features: Tensor, *, tile_rows: int = TILE_ROWS) -> Tensor:
    """All scaled logits, [N, K] float32 on the classifier's device: for measuring, not for archives."""
    parts = [_tile_logits(calibrated, tile, tile_rows=tile_rows) for tile in torch.split(features, tile_rows)]
    return torch.cat(parts)


def _tile_logits(calibrated: CalibratedClassifier, features: Tensor, *, tile_rows: int) -> Tensor:
    rows = len(features)
    tile = torch.zeros(tile_rows, features.shape[1], dtype=torch.float32, device=calibrated.device)
    tile[:rows] = features
    return calibrated.scaling(calibrated.classifier.logits(tile))[:rows]


def _scored_tile(calibrated: CalibratedClassifier, features: Tensor, *, top: int, tile_rows: int) -> Predictions:
    logits = _tile_logits(calibrated, features, tile_rows=tile_rows)
    top_labels, top_logits = stable_top_k(logits, count=min(max(top, 2), logits.shape[1]))
    top_scores = (top_logits - torch.logsumexp(logits, dim=1, keepdim=True)).exp().cpu()
    score, top_labels = top_scores[:, 0], top_labels.cpu()
    threshold = 0.0 if calibrated.threshold is None else calibrated.threshold
    return Predictions(
        label=top_labels[:, 0],
        score=score,
        margin=score - top_scores[:, 1],
        top_labels=top_labels[:, :top],
        top_scores=top_scores[:, :top],
        abstained=score < threshold,
    )


def stable_top_k(logits: Tensor, *, count: int) -> tuple[Tensor, Tensor]:
    """The largest entries of each row in order, of equals the one with the lowest index first.

    `torch.topk` leaves the order of equals open; `argmax` does not.

    Args:
        logits: [N, K] float32 above -inf.
        count: how many, in [1, K].

    Returns:
        indices [N, count] int64 and values [N, count] float32.
    """
    left, indices = logits.clone(), []
    for _ in range(count):
        indices.append(left.argmax(dim=1, keepdim=True))
        left.scatter_(1, indices[-1], float("-inf"))
    found = torch.cat(indices, dim=1)
    return found, logits.gather(1, found)
