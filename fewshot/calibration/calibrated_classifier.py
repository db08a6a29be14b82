"""A classifier with calibrated probabilities, and the held-out numbers that they rest on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor

from fewshot.calibration.temperature import Scaling
from fewshot.method import Classifier, Method
from fewshot.model_selection.candidates import CandidateResult

Source = Literal["val", "folds", "text", "none"]


@dataclass(frozen=True, slots=True)
class HeldOutReport:
    """What was measured on held-out images.

    Attributes:
        source: "val": the extra labelled images; "folds": cross-validation inside the shots; "text": one shot a
            class, so lower bounds (see the module); "none": there was nothing to measure on.
        images: number of held-out images.
        accuracy: share of them labelled right.
        nll_before: negative log-likelihood of the logits as they are, in nats.
        nll_after: of the scaled ones.
        ece_before: expected calibration error of the logits as they are.
        ece_after: of the scaled ones.
        max_error: the error that was asked for; None when none was.
        confidence: probability with which `error_bound` holds.
        coverage: share of them at or above the threshold.
        error_bound: upper bound of the error among accepted images; None without a threshold that satisfies
            `max_error`.
        candidates: how every candidate did, the best first, where methods were compared; None where one was named.
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


@dataclass(frozen=True, slots=True)
class CalibratedClassifier:
    """A classifier and what turns its logits into reported labels.

    Attributes:
        method: the method with every hyperparameter filled in.
        classifier: what it fitted to all the shots.
        class_names: K names, in label order.
        logit_scale: of the backbone it was fitted on.
        scaling: of the logits, before the softmax.
        threshold: a lower score is abstained; None never abstains; above 1 always does.
        report: what the numbers rest on.
    """

    method: Method
    classifier: Classifier
    class_names: tuple[str, ...]
    logit_scale: float
    scaling: Scaling
    threshold: float | None
    report: HeldOutReport

    @property
    def device(self) -> torch.device:
        """Where the classifier's tensors lie."""
        values = (getattr(self.classifier, field.name) for field in fields(self.classifier))  # type: ignore[arg-type]
        return next((value.device for value in values if isinstance(value, Tensor)), torch.device("cpu"))

    def to(self, device: torch.device | str) -> Self:
        """The same with the classifier's tensors on another device."""
        names = [field.name for field in fields(self.classifier)]  # type: ignore[arg-type]
        moved = {name: _moved(getattr(self.classifier, name), device) for name in names}
        return replace(self, classifier=replace(self.classifier, **moved))  # type: ignore[type-var]


def _moved(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {name: tensor.to(device) for name, tensor in value.items()}
    return value
