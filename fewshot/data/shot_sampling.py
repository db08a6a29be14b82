"""Sampling of shots from labelled images."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import TypeVar

from fewshot.errors import DataError

Label = TypeVar("Label", int, str)


def sample_shots(keys: Sequence[str], labels: Sequence[Label], *, shots: int, seed: int) -> list[int]:
    """Draw at most `shots` images of each class.

    Within a class, images are ordered by a hash of (seed, key) and the first ones are drawn. So a draw of fewer shots
    is part of a draw of more, the draw does not depend on the order of the list, and an additional image changes only
    the draw of its own class, by at most one image.

    Args:
        keys: N names of the images, unique.
        labels: N class labels, indices or names.
        shots: maximum number of images of a class, >= 0; a class with fewer images gives all of them.
        seed: of the draw.

    Returns:
        Positions in `keys`, by ascending label and, within a class, in the order of the draw.

    Raises:
        DataError: `shots` is negative, or the lists differ in length.
    """
    if shots < 0:
        raise DataError(f"shots must be at least 0, got {shots}")
    if len(keys) != len(labels):
        raise DataError(f"expected one label for each key, got {len(keys)} keys and {len(labels)} labels")
    members: defaultdict[Label, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        members[label].append(index)
    drawn: list[int] = []
    for label in sorted(members):
        drawn += sorted(members[label], key=lambda index: (_rank(seed, keys[index]), keys[index]))[:shots]
    return drawn


def _rank(seed: int, key: str) -> bytes:
    """Return the sort key of an image in its class, also for names that are not valid Unicode (odd file names)."""
    return hashlib.blake2b(f"{seed}\n{key}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
