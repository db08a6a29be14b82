"""The classifier of learned tokens: a text row for each class, compared with image features.

    logits = s · (cos(row_k, x) - offset_k)

Training never compares one text with another (`token_training`), so a text may be a little nearer to every image than
others are. The calibration "support_mean" takes each text's mean similarity to the class prototypes of the shots away;
"none" is the published inference. With random text encoders, and with the embedded model on emoji, it helps about as
often as it harms, by a few points: whether to use it is chosen inside the shots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.diffusion.tokens.token_prompts import Pool, TokenPrompts, encode_with_vectors, project_texts

if TYPE_CHECKING:
    from fewshot.backbones.diffusion import DiffusionBackbone

Calibration = Literal["none", "support_mean"]
TEXTS_IN_A_FORWARD = 64
"""Texts in one forward, always; missing ones are copies."""
NO_TOKEN_OFFSET = 4.0
"""Offset of a class without a token: larger than the sum of any cosine and offset, so that it is never the label."""


@dataclass(frozen=True, slots=True)
class TokenClassifier:
    """A text row for each class. A class without shots has no token and is never predicted.

    Attributes:
        rows: [K, D] float32, unit rows; 0 for a class without shots.
        offsets: [K] float32, taken from the cosines; `NO_TOKEN_OFFSET` for a class without shots.
        tokens: [K, width] float32, the learned vectors (`fewshot.diffusion.tokens.token_file` stores them for other
            programs); 0 for a class without shots.
        logit_scale: s, the backbone's.
    """

    rows: Tensor
    offsets: Tensor
    tokens: Tensor
    logit_scale: float

    def logits(self, features: Tensor) -> Tensor:
        """See `Classifier.logits`."""
        return self.logit_scale * (features @ self.rows.T - self.offsets)


@torch.no_grad()
def token_rows(
    backbone: DiffusionBackbone, tokens: Tensor, *, word: str, pool: Pool, templates: Sequence[str] | None = None
) -> Tensor:
    """Return the text feature of each token: normalised, averaged over prompts, normalised again.

    Args:
        backbone: the model.
        tokens: [G, width] float32.
        word: the start of the tokens; here it only holds their place.
        pool: as in training.
        templates: of P prompts; None takes the backbone's own, as in training.

    Returns:
        [G, D] float32 on the CPU, unit rows. A row's bits depend on its own token alone.

    Raises:
        DataError: the model has no projection.
    """
    prompts = TokenPrompts.from_templates(backbone, templates or backbone.templates, word)
    G, P = len(tokens), len(prompts)
    which = torch.arange(G * P)
    texts = []
    for part in torch.split(which, TEXTS_IN_A_FORWARD):
        full = torch.cat([part, part[-1:].expand(TEXTS_IN_A_FORWARD - len(part))])
        ids, slots = prompts.ids[full % P], prompts.slots[full % P]
        hidden = encode_with_vectors(backbone, ids, slots, tokens[full // P])
        texts.append(normalize(project_texts(backbone, hidden, slots, pool=pool), dim=1)[: len(part)].cpu())
    return normalize(torch.cat(texts).view(G, P, -1).mean(dim=1), dim=1)


def class_offsets(rows: Tensor, means: Tensor, known: Tensor, *, calibration: Calibration) -> Tensor:
    """Return the offset that is subtracted from each row's cosines.

    Args:
        rows: [K, D] float32, unit rows.
        means: [K, D] float32, unit class means of the shots.
        known: [K] bool, the classes that have shots.
        calibration: see the module.

    Returns:
        [K] float32.
    """
    offsets = rows.new_zeros(len(rows))
    if calibration == "support_mean" and known.any():
        offsets = rows @ means[known].mean(dim=0)
    return offsets.masked_fill(~known, NO_TOKEN_OFFSET)
