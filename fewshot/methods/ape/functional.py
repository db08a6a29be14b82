"""Training-free APE (Zhu et al. 2023, arXiv 2304.01195) as functions of tensors.

    logits = s x W^T + alpha exp(-beta (1 - x' F'^T)) diag(exp(gamma d)) L

A prime is the restriction to the kept channels, renormalised; the text term keeps all of them. Where we differ from the
authors' code: the channel criterion (`fewshot.key_value_cache.channels`) and that labels are integers. As in the code,
d is KL(label || prediction) in bits, so with gamma > 0 the shots that the text classifies badly count more; the paper
prints the other direction.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fewshot.key_value_cache.kernel import MEMORY_BYTES

EPSILON = 1e-6
"""Added to both probabilities inside the logarithm, as in the authors' code."""


def label_divergence(keys: Tensor, text: Tensor, labels: Tensor, *, memory_bytes: int = MEMORY_BYTES) -> Tensor:
    """Return KL(label || prediction of the text) of each shot in bits: -log2((p + 1e-6) / (1 + 1e-6)), p its own share.

    The softmax has no temperature (raw cosines), as in the authors' code, so that d is close to log2 K.

    Args:
        keys: [M, Q] float32, unit rows.
        text: [K, Q] float32, unit rows.
        labels: [M] int64.
        memory_bytes: budget of the cosines held at a time.

    Returns:
        [M] float32, about [0, 19.93].
    """
    rows_a_block = max(1, memory_bytes // (4 * len(text)))
    log_share = (keys * text[labels]).sum(dim=1)
    for rows in (slice(start, start + rows_a_block) for start in range(0, len(keys), rows_a_block)):
        log_share[rows] -= torch.logsumexp(keys[rows] @ text.T, dim=1)
    return -torch.log2((log_share.exp() + EPSILON) / (1 + EPSILON))
