"""Which of the labelled images become shots."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import TypeVar

from fewshot.errors import DataError

Label = TypeVar("Label", int, str)


def sample_shots(keys: Sequence[str], labels: Sequence[Label], *, shots: int, seed: int) -> list[int]:
    """Draw at most `shots` images of each class.

    Within a class, images are ordered by a hash of (seed, key) and the first ones are taken. So the draw for fewer
    shots is part of the draw for more, it does not depend on the order of the list, and an image that is added
    changes the draw of its own class only, by at most one image.

    Args:
        keys: N names of the images, unique.
        labels: N class labels, indices or names.
        shots: at most this many a class, >= 0; a class that has fewer gives all it has.
        seed: another seed is another draw.

    Returns:
        Positions in `keys`, by ascending label and, in a class, in the order of the draw.

    Raises:
        DataError: `shots` is negative, or the lists differ in length.
    """
    if shots < 0:
        raise DataError(f"shots must be at least 0, got {shots}")
    if len(keys) != len(labels):
        raise DataError(f"expected a label for each key, got {len(keys)} keys and {len(labels)} labels")
    members: defaultdict[Label, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        members[label].append(index)
    drawn: list[int] = []
    for label in sorted(members):
        drawn += sorted(members[label], key=lambda index: (_rank(seed, keys[index]), keys[index]))[:shots]
    return drawn


def _rank(seed: int, key: str) -> bytes:
    """Where a key stands in its class. Names that are not valid Unicode (an odd file name) have a rank, too."""
    return hashlib.blake2b(f"{seed}\n{key}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
