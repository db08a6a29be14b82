"""Cut a sorted stream into groups so that a new item changes the group it falls into and hardly any other.

Content-defined chunking, as in LBFS (Muthitacharoen et al., SOSP 2001), with items instead of bytes: a group ends
after an item whose own hash is divisible by a given number, not after every n-th item.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def chunk(items: Iterable[T], *, key: Callable[[T], str], target: int) -> Iterator[list[T]]:
    """Group items in their order.

    Args:
        items: in an order that is a function of the set of items.
        key: name of an item; determines whether a group may end after it.
        target: about how many items a group has, >= 1: at least half as many (but the last), at most twice as many.

    Yields:
        Groups, none empty.
    """
    smallest = max(1, target // 2)
    group: list[T] = []
    for item in items:
        group.append(item)
        if len(group) >= 2 * target or (len(group) >= smallest and _ends(key(item), target - smallest)):
            yield group
            group = []
    if group:
        yield group


def _ends(key: str, odds: int) -> bool:
    """Whether a group may end after this key: true for one key in `odds`."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) % max(1, odds) == 0
