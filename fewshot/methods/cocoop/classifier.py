"""The classifier that CoCoOp fits.

With K classes an image costs K sequences through the text tower, so only the classes on its shortlist get prompts of
their own. The shortlist is made with image-independent prompts (shifted by the mean shift of the shots), and the
other classes keep those logits. Training fixes differences between the logits of an image, not their level; so the
logits on the shortlist are all moved by the same amount, to the mean of the image-independent ones of these classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fewshot.backbones.text_tower import Prompts
from fewshot.prompt_learning.conditional_context import shifted_rows, shifts
from fewshot.prompt_learning.context_rows import RowsPoint, blended_rows
from fewshot.prototypes import text_logits

if TYPE_CHECKING:
    from fewshot.backbones.text_tower import TextTower

FORWARD = 32
"""Sequences in a forward."""
BLOCK = 4096
"""Sequences whose context vectors are held at a time."""


@dataclass(frozen=True, slots=True)
class CocoopClassifier:
    """Prompts, the network that shifts them, and the rows that theirs are blended with.

    Attributes:
        ids: [K, L] int64, see `Prompts`.
        slots: [K, m] int64.
        weights: see `fewshot.prompt_learning.conditional_context.Weights`, and shift [w], the mean over the shots.
        learned: [K, D] float32, unit rows, with the mean shift.
        text: [K, D] float32, unit rows, the prompt prototypes.
        means: [K, D] float32, see `class_means_of`.
        prompt_share: of learned rows beside the prototypes.
        image_weight: of the means.
        shortlist: number of classes of an image that get prompts of their own; K or more is CoCoOp exactly.
        logit_scale: the backbone's.
        text_tower: of the backbone.
    """

    ids: Tensor
    slots: Tensor
    weights: Mapping[str, Tensor]
    learned: Tensor
    text: Tensor
    means: Tensor
    prompt_share: float
    image_weight: float
    shortlist: int
    logit_scale: float
    text_tower: TextTower

    @torch.no_grad()
    def logits(self, features: Tensor) -> Tensor:
        """See `Classifier.logits`. Rows of zeros, which fill tiles up, are not put through the text tower."""
        rows = blended_rows(self.learned, self.text, self.means, self._point)
        logits = text_logits(features, rows, logit_scale=self.logit_scale)
        best = logits.argsort(dim=1, descending=True, stable=True)[:, : self.shortlist]
        shift = shifts(self.weights, features)
        images = features.any(dim=1).nonzero().squeeze(1)
        for some in torch.split(images, max(1, BLOCK // best.shape[1])) if len(images) else ():
            classes = best[some]
            own = self._own_logits(features[some], shift[some], classes)
            if best.shape[1] < logits.shape[1]:
                own = own + (logits[some].gather(1, classes) - own).mean(dim=1, keepdim=True)
            logits[some] = logits[some].scatter(1, classes, own)
        return logits

    def _own_logits(self, features: Tensor, shift: Tensor, classes: Tensor) -> Tensor:
        """Return logits of classes [b, S] with the prompts of images [b, D] and their shifts [b, w]; [b, S] float32."""
        prompts = Prompts(self.ids, self.slots)[classes.flatten()]
        learned = shifted_rows(self.text_tower, prompts, self.weights, shift, batch=FORWARD).to(features.device)
        rows = blended_rows(learned, self.text[classes], self.means[classes], self._point)
        return self.logit_scale * (rows * features[:, None]).sum(dim=2)

    @property
    def _point(self) -> RowsPoint:
        return RowsPoint(self.prompt_share, self.image_weight)
