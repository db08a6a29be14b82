"""Predictions for features, computed in tiles of a fixed number of rows.

A matrix product may round a row differently for another number of rows. So every tile has the same shape (the last one
is padded), and the bits of a prediction do not depend on the number of images that are classified together.

What follows the product, a dozen passes over the logits, goes through a few rows at a time on CPUs, which stay in the
cache of a core: at ten thousand classes a tile of logits has 40 MB, and passes through memory take as long again as the
product. Each row is computed by itself, so this changes no bit; but a power of a few numbers may be rounded differently
at the end of a vector register. So these rows are many full registers, and the padding goes through the passes, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from fewshot.calibration.calibrated_classifier import CalibratedClassifier
from fewshot.conformal import LabelSetRule

TILE_ROWS = 1024
"""Rows of a tile."""
CACHE_BYTES = 4 * 2**20
"""Logits that go through the passes after the product at a time."""
LANES = 64
"""Rows that fill the vector registers of any CPU."""
GROUP = 64
"""Neighbouring classes whose largest logit is looked at first."""
NOT_FINITE = "the classifier's scores of this image are not finite numbers"
"""Why an image with such scores has no prediction."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions of N images, on the CPU.

    Attributes:
        label: [N] int64, the most probable class; the lowest of equally probable ones.
        score: [N] float32, its probability, calibrated if `CalibratedClassifier.has_scores`.
        margin: [N] float32, its probability minus that of the second class.
        top_labels: [N, min(top, K)] int64, the most probable first.
        top_scores: [N, min(top, K)] float32, their probabilities.
        abstained: [N] bool, whether the score is not at or above the threshold: so that NaN abstains.
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

    def __getitem__(self, index: Tensor | slice) -> Predictions:
        """Return the predictions selected by an index [n], a boolean mask [N] or a slice."""
        return Predictions(*(getattr(self, name)[index] for name in self.__slots__))

    @property
    def finite(self) -> Tensor:
        """[N] bool, whether all scores of an image are numbers; if not, it has no prediction (`NOT_FINITE`)."""
        return self.score.isfinite() & self.margin.isfinite() & self.top_scores.isfinite().all(dim=1)

    @classmethod
    def concatenate(cls, parts: list[Self]) -> Self:
        """Return the rows of one or more parts, in order."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in cls.__slots__))


def predict(
    calibrated: CalibratedClassifier, features: Tensor, *, top: int = 5, tile_rows: int = TILE_ROWS
) -> Predictions:
    """Classify images.

    Args:
        calibrated: the classifier; its device does the work.
        features: [N, D] float32, unit rows, on any device.
        top: number of classes to report for each image, >= 1.
        tile_rows: rows of a matrix product; affects the last bits of a score.

    Returns:
        N predictions. A row depends on that row of `features` only.
    """
    starts = range(0, max(1, len(features)), tile_rows)
    return Predictions.concatenate(
        [
            _predict_tile(calibrated, features[start : start + tile_rows], top=top, tile_rows=tile_rows)
            for start in starts
        ]
    )


def with_label_sets(scored: Predictions, rule: LabelSetRule | None, views: Tensor) -> tuple[Predictions, Tensor | None]:
    """Make the label sets of images, and abstain where the label is not the only one of its set.

    Args:
        scored: predictions of N images.
        rule: makes the label sets; None makes none, and changes nothing.
        views: [N, D] float32, raw encoder outputs of the images, see `LabelSetRule.sets`.

    Returns:
        the predictions, and the label sets [N, K] bool; None without a rule.
    """
    if rule is None:
        return scored, None
    sets = rule.sets(views)
    is_only_label = (sets.sum(dim=1) == 1) & sets.gather(1, scored.label[:, None]).squeeze(1)
    return replace(scored, abstained=scored.abstained | ~is_only_label), sets


def calibrated_logits(calibrated: CalibratedClassifier, features: Tensor, *, tile_rows: int = TILE_ROWS) -> Tensor:
    """Return all scaled logits, [N, K] float32 on the classifier's device; for evaluation, not for large archives."""
    parts = [_tile_logits(calibrated, tile, tile_rows=tile_rows) for tile in torch.split(features, tile_rows)]
    return torch.cat(parts)


def _tile_logits(calibrated: CalibratedClassifier, features: Tensor, *, tile_rows: int) -> Tensor:
    return calibrated.scaling(_unscaled_logits(calibrated, features, tile_rows=tile_rows))[: len(features)]


def _unscaled_logits(calibrated: CalibratedClassifier, features: Tensor, *, tile_rows: int) -> Tensor:
    """Return the logits of a whole tile, [tile_rows, K]."""
    tile = torch.zeros(tile_rows, features.shape[1], dtype=torch.float32, device=calibrated.device)
    tile[: len(features)] = features
    return calibrated.classifier.logits(tile)


def _predict_tile(calibrated: CalibratedClassifier, features: Tensor, *, top: int, tile_rows: int) -> Predictions:
    logits = _unscaled_logits(calibrated, features, tile_rows=tile_rows)
    rows = max(1, CACHE_BYTES // (4 * LANES * logits.shape[1])) * LANES if logits.is_cpu else tile_rows
    ranked = [_ranked(calibrated, part, top=top) for part in torch.split(logits, rows)]
    return Predictions.concatenate(ranked)[: len(features)]


def _ranked(calibrated: CalibratedClassifier, unscaled: Tensor, *, top: int) -> Predictions:
    """Return the predictions that follow from logits [N, K]."""
    logits = calibrated.scaling(unscaled)
    top_labels, top_logits = stable_top_k(logits, count=min(max(top, 2), logits.shape[1]))
    largest = top_logits[:, :1]
    evidence = logits.sub_(largest).exp_().sum(dim=1, keepdim=True).log_().add_(largest)  # logsumexp, in place
    top_scores = (top_logits - evidence).exp().cpu()
    score, top_labels = top_scores[:, 0], top_labels.cpu()
    threshold = 0.0 if calibrated.threshold is None else calibrated.threshold
    return Predictions(
        label=top_labels[:, 0],
        score=score,
        margin=score - top_scores[:, 1],
        top_labels=top_labels[:, :top],
        top_scores=top_scores[:, :top],
        abstained=~(score >= threshold),
    )


def stable_top_k(logits: Tensor, *, count: int) -> tuple[Tensor, Tensor]:
    """Return the largest entries of each row in descending order, the lowest index first among equal entries.

    `torch.topk` does not define the order of equal entries; `argmax` does. The best entries lie in the groups with the
    best largest entries, the first ones among equal groups, so only these are searched.

    Args:
        logits: [N, K] float32 above -inf.
        count: number of entries, in [1, K].

    Returns:
        Indices [N, count] int64 and values [N, count] float32.
    """
    rows, K = logits.shape
    groups = K // GROUP
    if groups <= count:
        found = _largest(logits, count)
        return found, logits.gather(1, found)
    peaks = logits[:, : groups * GROUP].view(rows, groups, GROUP).amax(dim=2)
    classes = torch.arange(K, device=logits.device)
    members = (_largest(peaks, count).sort(dim=1).values[..., None] * GROUP + classes[:GROUP]).flatten(1)
    candidates = torch.cat([members, classes[groups * GROUP :].expand(rows, -1)], dim=1)
    found = candidates.gather(1, _largest(logits.gather(1, candidates), count))
    return found, logits.gather(1, found)


def _largest(values: Tensor, count: int) -> Tensor:
    """Return the indices of the largest entries of each row, [N, count]; see `stable_top_k`."""
    remaining, indices = values.clone(), []
    for _ in range(count):
        indices.append(remaining.argmax(dim=1, keepdim=True))
        remaining.scatter_(1, indices[-1], float("-inf"))
    return torch.cat(indices, dim=1)
