"""Label sets beside predictions, and the abstention that follows from them."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from fewshot.conformal import LabelSetRule
from fewshot.inference.predict import Predictions


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
