"""A classifier with calibrated probabilities, and the held-out numbers that they rest on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor

from fewshot.calibration.abstention import HeldOutScores
from fewshot.calibration.temperature import Scaling
from fewshot.method import Classifier, Method
from fewshot.model_selection.candidates import CandidateResult

Source = Literal["val", "folds", "text", "none"]


@dataclass(frozen=True, slots=True)
class HeldOutReport:
    """Measures of a classifier on held-out images.

    Attributes:
        source: origin of the held-out images. "val": separate labelled images; "folds": cross-validation inside the
            shots; "text": one shot of each class, so the measures are lower bounds, and scores are not calibrated (see
            `fewshot.calibration.calibrate`); "none": no images.
        images: number of held-out images.
        accuracy: share of images that are classified correctly, in [0, 1].
        nll_before: negative log-likelihood of the original logits, in nats.
        nll_after: negative log-likelihood of the scaled logits, in nats.
        ece_before: expected calibration error of the original logits, in [0, 1].
        ece_after: expected calibration error of the scaled logits, in [0, 1].
        max_error: the given maximum error rate; None if there is none.
        confidence: probability with which `error_bound` holds.
        coverage: share of images with a score at or above the threshold; 1 without `max_error`.
        error_bound: upper bound of the error rate among accepted images; None if no threshold guarantees `max_error`,
            or without images.
        candidates: the results of all compared methods, the best first; None if no methods were compared.
        nested_accuracy: accuracy with hyperparameters that were chosen without the image, which `accuracy` flatters
            (`fewshot.calibration.chosen_without`; where methods were compared, by nested cross-validation); None where
            nothing was chosen on these images.
    """

    source: Source
    images: int
    accuracy: float | None = None
    nll_before: float | None = None
    nll_after: float | None = None
    ece_before: float | None = None
    ece_after: float | None = None
    max_error: float | None = None
    confidence: float | None = None
    coverage: float | None = None
    error_bound: float | None = None
    candidates: tuple[CandidateResult, ...] | None = None
    nested_accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class CalibratedClassifier:
    """A classifier with a scaling of its logits and a threshold for abstention.

    Attributes:
        method: the method with the value of every hyperparameter.
        classifier: the classifier fitted to all shots.
        class_names: K names, in label order.
        logit_scale: of the backbone of the classifier.
        scaling: applied to the logits before the softmax.
        threshold: predictions with a lower score abstain; None never abstains, a value above 1 always does.
        report: the held-out measures behind scaling and threshold.
        held_out: the held-out scores that a threshold is chosen on.
    """

    method: Method
    classifier: Classifier
    class_names: tuple[str, ...]
    logit_scale: float
    scaling: Scaling
    threshold: float | None
    report: HeldOutReport
    held_out: HeldOutScores

    def with_max_error(self, max_error: float | None, *, confidence: float) -> Self:
        """Return the classifier with the threshold for another maximum error rate; nothing is trained.

        Args:
            max_error: maximum error rate among predictions that do not abstain, in (0, 1); None never abstains.
            confidence: probability with which it must hold, in (0, 1).

        Raises:
            DataError: an argument is out of range.
        """
        found = self.held_out.guarantee(max_error, confidence=confidence)
        report = replace(
            self.report,
            max_error=max_error,
            confidence=confidence,
            coverage=found.coverage,
            error_bound=found.error_bound,
        )
        return replace(self, threshold=found.threshold, report=report)

    def with_threshold(self, threshold: float, *, confidence: float) -> Self:
        """Return the classifier with a threshold that something else than held-out scores gave.

        Args:
            threshold: labels with a smaller score are withheld; above 1 all are.
            confidence: with which it was given, in (0, 1).
        """
        scores = self.held_out.scores
        coverage = float((scores >= threshold).mean()) if len(scores) else 0.0
        report = replace(self.report, max_error=None, confidence=confidence, coverage=coverage, error_bound=None)
        return replace(self, threshold=threshold, report=report)

    @property
    def has_scores(self) -> bool:
        """Whether probabilities are calibrated. If not, only their order means something."""
        return self.report.source in ("val", "folds") and self.report.images > 0

    @property
    def device(self) -> torch.device:
        """The device of the classifier's tensors."""
        values = (getattr(self.classifier, field.name) for field in fields(self.classifier))  # type: ignore[arg-type]
        return next((value.device for value in values if isinstance(value, Tensor)), torch.device("cpu"))

    def to(self, device: torch.device | str) -> Self:
        """Return a copy with the classifier's tensors on another device."""
        names = [field.name for field in fields(self.classifier)]  # type: ignore[arg-type]
        moved = {name: _moved(getattr(self.classifier, name), device) for name in names}
        return replace(self, classifier=replace(self.classifier, **moved))  # type: ignore[type-var]


def _moved(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {name: tensor.to(device) for name, tensor in value.items()}
    return value
