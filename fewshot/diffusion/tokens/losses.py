"""What tells classes apart in the space of text and image features (MC-TI, arXiv 2410.22317).

    L_reg = -log softmax_c( s · cos(w_k, f_c) )[k]      w_k a text of class k, f_c one image of every class c

The softmax goes over images: no other class's text takes part, so that a class can be learned alone, and what is
learned does not change if all similarities of a text shift together. Inference compares texts. The optional coupled
loss is the other direction, over the texts of all classes, and is not in the paper.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize


def text_to_images(texts: Tensor, bank: Tensor, chosen: Tensor, targets: Tensor, *, scale: float) -> Tensor:
    """L_reg.

    Args:
        texts: [B, D] float32, of any length.
        bank: [M, D] float32, unit rows: image features.
        chosen: [B, C] int64, for each text one row of the bank for each class.
        targets: [B] int64 in [0, C), the class of each text.
        scale: s > 0.

    Returns:
        [B] float32; ln C where all similarities are equal.
    """
    cosines = (normalize(texts, dim=1) @ bank.T).gather(1, chosen)
    return cross_entropy(scale * cosines, targets, reduction="none")


def images_to_text(texts: Tensor, images: Tensor, *, scale: float) -> Tensor:
    """The coupled loss.

    Args:
        texts: [C, b, D] float32, b texts of each class.
        images: [C, b, D] float32, unit rows: an image of each class for each of them.
        scale: s > 0.

    Returns:
        [C, b] float32: of image (c, j) among the texts (·, j).
    """
    C, b, _ = texts.shape
    logits = scale * torch.einsum("cjd,kjd->cjk", images, normalize(texts, dim=2))
    targets = torch.arange(C, device=texts.device)[:, None].expand(C, b)
    return cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(C, b)
