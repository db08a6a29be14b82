"""Reasons why images could not be read; reasons that differ only in numbers count as one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest

from cluster import Store
from ray_jobs.output.feature_parts import view_table
from ray_jobs.output.layout import FAILURES

EXAMPLES = 12
"""Images shown, and kept for each reason."""
BATCH = 1 << 16
"""Rows at a time."""


@dataclass(frozen=True, slots=True)
class Broken:
    """An image that could not be read, and the reason."""

    image: str
    error: str


@dataclass(slots=True)
class Reason:
    """A reason, and the images it holds for.

    Attributes:
        text: of the first image.
        images: number of images.
        examples: the first few.
    """

    text: str
    images: int = 0
    examples: list[Broken] = field(default_factory=list)


def read_reasons(store: Store, run: str) -> list[Reason]:
    """Read the reasons of a run, the most frequent first; rows become objects batch by batch."""
    reasons: dict[str, Reason] = {}
    for broken in _unreadable(store, run):
        reason = reasons.setdefault(re.sub(r"\d+", "0", broken.error), Reason(broken.error))
        reason.images += 1
        if len(reason.examples) < EXAMPLES:
            reason.examples.append(broken)
    return sorted(reasons.values(), key=lambda reason: (-reason.images, reason.text))


def some_of_each(reasons: Sequence[Reason]) -> list[Broken]:
    """Return at most `EXAMPLES` images: one of each reason, then a second of each, and so on."""
    turns = zip_longest(*(reason.examples for reason in reasons))
    return list(islice((broken for turn in turns for broken in turn if broken is not None), EXAMPLES))


def _unreadable(store: Store, run: str) -> Iterator[Broken]:
    table = view_table(store, f"{run}/{FAILURES}", columns=["kind", "image", "error"])
    for batch in table.to_batches(max_chunksize=BATCH):
        for row in batch.to_pylist():
            if row["kind"] == "image":
                yield Broken(row["image"], row["error"])
