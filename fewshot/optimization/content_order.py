"""An order of the shots by their content, so that no result depends on the order in which they are listed."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from fewshot.problem import Labelled


def content_digests(images: Labelled, *, seed: int = 0) -> list[bytes]:
    """Hash the features of each image.

    Args:
        images: M labelled images.
        seed: key of the hash; another seed gives an unrelated order.

    Returns:
        M digests of 16 bytes. Equal views have equal digests, whatever their labels and positions.
    """
    key = seed.to_bytes(8, "little", signed=True)
    rows = images.views.detach().cpu().flatten(1).contiguous().numpy()
    return [hashlib.blake2b(row.tobytes(), digest_size=16, key=key).digest() for row in rows]


def by_label_and_content(images: Labelled) -> Tensor:
    """Return [M] int64: the permutation that sorts images by label and, within a label, by content."""
    labels, digests = images.labels.tolist(), content_digests(images)
    order = sorted(range(len(labels)), key=lambda row: (labels[row], digests[row]))
    return torch.tensor(order, dtype=torch.int64, device=images.labels.device)


def by_content(images: Labelled, *, seed: int = 0) -> Tensor:
    """Return [M] int64: the permutation that sorts images by content alone; another seed gives another order."""
    digests = content_digests(images, seed=seed)
    return torch.tensor(sorted(range(len(digests)), key=digests.__getitem__), dtype=torch.int64)


def image_ids(images: Labelled) -> Tensor:
    """Return [M] int64: equal for equal images, such as the repeated shots of an oversampled fold."""
    digests = content_digests(images)
    first = {digest: row for row, digest in reversed(list(enumerate(digests)))}
    return torch.tensor([first[digest] for digest in digests], dtype=torch.int64)
