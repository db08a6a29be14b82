"""Metrics of predictions: accuracies as fractions in [0, 1], likelihoods in nats, and counts that can be added up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

BINS = 15
"""Equal-width bins of the expected calibration error (Guo et al. 2017, arXiv 1706.04599)."""


def correct_rows(logits: Tensor, labels: Tensor) -> Tensor:
    """Return [N] bool: whether the largest logit of a row is that of its label; never with NaN or infinity in it.

    Args:
        logits: [N, K] float32.
        labels: [N] int64 in [0, K).
    """
    predicted = logits.argmax(dim=1)  # NaN counts as the largest.
    return (predicted == labels) & logits.gather(1, predicted[:, None]).squeeze(1).isfinite()


def negative_log_likelihood(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> float:
    """Return the mean of -log softmax(logits)[label] in nats.

    Args:
        logits: [N, K] float32.
        labels: [N] int64.
        weights: [N] float64, > 0, of the images in the mean; None means equal ones.
    """
    own = logits.gather(1, labels[:, None]).squeeze(1)
    losses = (torch.logsumexp(logits, dim=1) - own).double()
    return float(losses.mean() if weights is None else (losses * weights).sum() / weights.sum())


def expected_calibration_error(confidence: Tensor, correct: Tensor, weights: Tensor | None = None) -> float:
    """Return the mean difference between confidence and accuracy over 15 equal-width bins, weighted by their size.

    Args:
        confidence: [N] float32 in [0, 1], the probability of the predicted class.
        correct: [N] bool, whether the predicted class is the true one.
        weights: [N] float64, > 0: how much each image counts; None means equally.
    """
    if weights is not None:
        bins = (confidence.double() * BINS).long().clamp(0, BINS - 1)
        gaps = torch.bincount(bins, weights=weights * (confidence.double() - correct.double()), minlength=BINS)
        return float(gaps.abs().sum() / weights.sum())
    return Tally.from_predictions(
        correct.long(), torch.ones_like(correct, dtype=torch.int64), confidence, num_classes=2
    ).ece


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts over labelled predictions, of a size that does not grow with the number of rows. `+` merges two tallies.

    Abstention affects `accepted` and `accepted_correct` only: all other counts use the most probable class of a row,
    whether it abstains or not.

    Attributes:
        present: [K] int64, rows of each true class.
        predicted: [K] int64, rows of each predicted class.
        hits: [K] int64, correct rows of each true class.
        accepted: rows that do not abstain.
        accepted_correct: correct rows that do not abstain.
        bin_rows: [15] int64, rows of each confidence bin; rows without a confidence are in no bin.
        bin_correct: [15] int64, correct rows of each bin.
        bin_confidence: [15] float64, sum of the confidences of each bin.
    """

    present: Tensor
    predicted: Tensor
    hits: Tensor
    accepted: int
    accepted_correct: int
    bin_rows: Tensor
    bin_correct: Tensor
    bin_confidence: Tensor

    @classmethod
    def from_predictions(
        cls,
        labels: Tensor,
        predicted: Tensor,
        confidence: Tensor,
        *,
        num_classes: int,
        abstained: Tensor | None = None,
    ) -> Self:
        """Count N rows.

        Args:
            labels: [N] int64 in [0, K), the true classes.
            predicted: [N] int64 in [0, K).
            confidence: [N] float32 in [0, 1]; not finite for a row without a confidence, which is in no bin.
            num_classes: K.
            abstained: [N] bool; None if no row abstains.
        """
        correct = labels == predicted
        accepted = torch.ones_like(correct) if abstained is None else ~abstained
        has_confidence = confidence.isfinite()
        known = confidence[has_confidence].double()
        bins = (known * BINS).long().clamp(0, BINS - 1)
        return cls(
            present=torch.bincount(labels, minlength=num_classes),
            predicted=torch.bincount(predicted, minlength=num_classes),
            hits=torch.bincount(labels[correct], minlength=num_classes),
            accepted=int(accepted.sum()),
            accepted_correct=int((accepted & correct).sum()),
            bin_rows=torch.bincount(bins, minlength=BINS),
            bin_correct=torch.bincount(bins[correct[has_confidence]], minlength=BINS),
            bin_confidence=torch.bincount(bins, weights=known, minlength=BINS),
        )

    def __add__(self, other: Tally) -> Tally:
        """Return the tally of both sets of rows."""
        return Tally(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))

    @property
    def rows(self) -> int:
        """N."""
        return int(self.present.sum())

    @property
    def accuracy(self) -> float:
        """Share of correct rows; NaN without rows, as for every ratio here."""
        return _ratio(int(self.hits.sum()), self.rows)

    @property
    def per_class_accuracy(self) -> Tensor:
        """[K] float64: the recall of each class; NaN for a class without rows."""
        return self.hits.double() / self.present

    @property
    def macro_f1(self) -> float:
        """Mean of 2 hits / (present + predicted) over the classes that have rows."""
        occurs = self.present > 0
        return float((2.0 * self.hits[occurs] / (self.present[occurs] + self.predicted[occurs])).double().mean())

    @property
    def coverage(self) -> float:
        """Share of rows that do not abstain."""
        return _ratio(self.accepted, self.rows)

    @property
    def selective_accuracy(self) -> float:
        """Accuracy of the rows that do not abstain."""
        return _ratio(self.accepted_correct, self.accepted)

    @property
    def ece(self) -> float:
        """Expected calibration error of the rows with a confidence."""
        return _ratio(float((self.bin_confidence - self.bin_correct).abs().sum()), int(self.bin_rows.sum()))

    def to_json(self) -> dict[str, Any]:
        """Return lists and numbers; `from_json` returns an equal tally."""
        values = ((name, getattr(self, name)) for name in self.__slots__)
        return {name: value.tolist() if isinstance(value, Tensor) else value for name, value in values}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the tally of the output of `to_json`."""
        tensors: dict[str, Any] = {
            name: torch.tensor(value, dtype=torch.float64 if name == "bin_confidence" else torch.int64)
            for name, value in values.items()
            if isinstance(value, list)
        }
        return cls(**{**values, **tensors})


def _ratio(numerator: float, denominator: int) -> float:
    return numerator / denominator if denominator else float("nan")
