"""The three protocols for the comparison of few-shot methods.

* few-shot: every class has examples, and images are classified among all classes. Accuracy, macro-F1 and calibration.
* base-to-new (CoCoOp, arXiv 2203.05557): half of the classes have examples. Base images are classified among base
  classes and new images among new classes; harmonic mean of the two accuracies.
* generalized zero-shot: the same examples, but all images are classified among all classes; the mean of the class
  accuracies over classes with examples (seen) and without (unseen), and their harmonic mean.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from fewshot.evaluation.metrics import Tally

Protocol = Literal["few-shot", "base-to-new", "generalized-zero-shot"]


def measure(protocol: Protocol, logits: Tensor, labels: Tensor, is_new: Tensor) -> tuple[dict[str, float], list[float]]:
    """Compute the metrics of test images.

    Args:
        protocol: the protocol.
        logits: [N, K] float32, calibrated (`fewshot.calibration.temperature.Scaling`).
        labels: [N] int64 in [0, K), the true classes.
        is_new: [K] bool, whether a class has no examples; ignored for "few-shot".

    Returns:
        Metrics by name, as fractions in [0, 1]; and the accuracy of each class under the protocol, NaN for a class
        without images.
    """
    if protocol == "base-to-new":
        base, new = _among(logits, labels, ~is_new), _among(logits, labels, is_new)
        accuracies = torch.where(is_new, new.per_class_accuracy, base.per_class_accuracy)
        numbers = {"base_accuracy": base.accuracy, "new_accuracy": new.accuracy}
        return numbers | {"harmonic_mean": harmonic_mean(base.accuracy, new.accuracy)}, accuracies.tolist()
    tally = _among(logits, labels, torch.ones_like(is_new))
    accuracies = tally.per_class_accuracy
    if protocol == "few-shot":
        return {"accuracy": tally.accuracy, "macro_f1": tally.macro_f1, "ece": tally.ece}, accuracies.tolist()
    seen, unseen = (float(accuracies[which].nanmean()) for which in (~is_new, is_new))
    numbers = {"seen_accuracy": seen, "unseen_accuracy": unseen, "harmonic_mean": harmonic_mean(seen, unseen)}
    return numbers | {"accuracy": tally.accuracy, "macro_f1": tally.macro_f1, "ece": tally.ece}, accuracies.tolist()


def harmonic_mean(first: float, second: float) -> float:
    """Return 2ab / (a + b); 0 if both are 0."""
    return 2.0 * first * second / (first + second) if first + second else 0.0


def _among(logits: Tensor, labels: Tensor, classes: Tensor) -> Tally:
    """Classify the images of some classes [K] bool among these classes, and count over all K."""
    rows = classes[labels]
    probabilities = torch.softmax(logits[rows].masked_fill(~classes, float("-inf")), dim=1)
    confidence, predicted = probabilities.max(dim=1)
    return Tally.from_predictions(labels[rows], predicted, confidence, num_classes=len(classes))
