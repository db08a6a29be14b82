"""An order of the shots that comes from the images themselves, so that no result depends on how they were listed."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from fewshot.problem import Labelled


def content_digests(images: Labelled, *, seed: int = 0) -> list[bytes]:
    """Hash what the encoder said about each image.

    Args:
        images: M labelled images.
        seed: another seed gives another, unrelated order.

    Returns:
        M digests of 16 bytes. Equal views have equal digests; labels and positions play no part.
    """
    key = seed.to_bytes(8, "little", signed=True)
    rows = images.views.detach().cpu().flatten(1).contiguous().numpy()
    return [hashlib.blake2b(row.tobytes(), digest_size=16, key=key).digest() for row in rows]


def by_label_and_content(images: Labelled) -> Tensor:
    """[M] int64: the permutation that groups images by label, in label order, and by content inside a label."""
    labels, digests = images.labels.tolist(), content_digests(images)
    order = sorted(range(len(labels)), key=lambda row: (labels[row], digests[row]))
    return torch.tensor(order, dtype=torch.int64, device=images.labels.device)


def by_content(images: Labelled, *, seed: int = 0) -> Tensor:
    """[M] int64: the permutation that sorts images by content alone; another seed gives another order."""
    digests = content_digests(images, seed=seed)
    return torch.tensor(sorted(range(len(digests)), key=digests.__getitem__), dtype=torch.int64)


def image_ids(images: Labelled) -> Tensor:
    """[M] int64: equal where images are the same, as in a fold that is topped up with repeated shots."""
    digests = content_digests(images)
    first = {digest: row for row, digest in reversed(list(enumerate(digests)))}
    return torch.tensor([first[digest] for digest in digests], dtype=torch.int64)
