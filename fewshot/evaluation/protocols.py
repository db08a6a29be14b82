"""What is asked of a classifier, and how well it answered: the three ways in which few-shot methods are compared.

* few-shot: every class has examples; an image is told apart among all classes. Accuracy, macro-F1, calibration.
* base-to-new (CoCoOp, arXiv 2203.05557): half of the classes have examples; base images are told apart among base
  classes, new ones among new classes; harmonic mean of the two accuracies.
* generalized zero-shot: the same examples, but every image is told apart among all classes; mean of the class
  accuracies over the classes with examples (seen), without (unseen), and their harmonic mean.

Job files name a protocol, and reading them must not load torch: importing this module does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fewshot.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from fewshot.evaluation.metrics import Tally

ProtocolName = Literal["few-shot", "base-to-new", "generalized-zero-shot"]


def measure(
    protocol: ProtocolName, logits: Tensor, labels: Tensor, is_new: Tensor
) -> tuple[dict[str, float], list[float]]:
    """Compute the metrics of test images.

    Args:
        protocol: which classes have examples, and among which images are classified.
        logits: [N, K] float32, calibrated (`fewshot.calibration.temperature.Scaling`).
        labels: [N] int64 in [0, K), the true classes.
        is_new: [K] bool, whether a class has no examples; ignored for "few-shot".

    Returns:
        numbers by name, fractions; and the accuracy of each class under the protocol, NaN for a class without images.

    Raises:
        DataError: logits are not finite, so that they rank no classes.
    """
    if wrong := int((~logits.isfinite().all(dim=1)).sum()):
        raise DataError(f"the scores of {wrong} of {len(logits)} test images are not finite numbers")
    if protocol == "base-to-new":
        base, new = _among(logits, labels, ~is_new), _among(logits, labels, is_new)
        accuracies = new.per_class_accuracy.where(is_new, base.per_class_accuracy)
        numbers = {"base_accuracy": base.accuracy, "new_accuracy": new.accuracy}
        return numbers | {"harmonic_mean": harmonic_mean(base.accuracy, new.accuracy)}, accuracies.tolist()
    tally = _among(logits, labels, is_new.new_ones(len(is_new)))
    accuracies = tally.per_class_accuracy
    if protocol == "few-shot":
        return {"accuracy": tally.accuracy, "macro_f1": tally.macro_f1, "ece": tally.ece}, accuracies.tolist()
    seen, unseen = (float(accuracies[which].nanmean()) for which in (~is_new, is_new))
    numbers = {"seen_accuracy": seen, "unseen_accuracy": unseen, "harmonic_mean": harmonic_mean(seen, unseen)}
    return numbers | {"accuracy": tally.accuracy, "macro_f1": tally.macro_f1, "ece": tally.ece}, accuracies.tolist()


def harmonic_mean(first: float, second: float) -> float:
    """Return 2ab / (a + b), or 0 if both are 0."""
    return 2.0 * first * second / (first + second) if first + second else 0.0


def _among(logits: Tensor, labels: Tensor, classes: Tensor) -> Tally:
    """Classify the images of some classes [K] bool among these classes, and count over all K."""
    from fewshot.evaluation.metrics import Tally

    rows = classes[labels]
    probabilities = logits[rows].masked_fill(~classes, float("-inf")).softmax(dim=1)
    confidence, predicted = probabilities.max(dim=1)
    return Tally.from_predictions(labels[rows], predicted, confidence, num_classes=len(classes))
