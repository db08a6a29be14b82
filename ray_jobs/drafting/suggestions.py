"""Choose settings of a new job by what its examples are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from fewshot.backbones.clip_spec import EMBEDDED, ClipSpec
from fewshot.errors import BackboneError

MAX_SHOTS = 64
"""Examples of a class beyond which more cost time and gain little."""
EXAMPLE_MAX_ERROR = 0.1
"""The `max_error` that a drafted job file shows."""
DOWNLOADED = ClipSpec(model="ViT-B-32", pretrained="laion2b_s34b_b79k")
"""A small CLIP that open_clip downloads (about 600 MB)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestions:
    """Settings of a drafted job.

    Attributes:
        shots: examples of a class at most; None takes all.
        views: augmented views of each example.
        clip: the backbone; None where the overrides name one.
        held_out: number of examples that calibration can hold out.
        max_error: the error rate that `needed` belongs to.
        needed: held-out examples, all labelled right, that show it.
        least_error: the least error rate that `held_out` examples can show; None where there are none.
    """

    shots: int | None
    views: int
    clip: ClipSpec | None
    held_out: int
    max_error: float
    needed: int
    least_error: float | None

    @property
    def is_reachable(self) -> bool:
        """Whether so many held-out examples can show that error rate."""
        return self.held_out >= self.needed


def suggest_shots(counts: Collection[int]) -> int | None:
    """Return how many examples of a class to use at most, None for all.

    Args:
        counts: number of examples of each class.
    """
    return MAX_SHOTS if max(counts, default=0) > MAX_SHOTS else None


def suggest_clip() -> ClipSpec:
    """Return the embedded CLIP if its packages are installed, else one that is downloaded."""
    try:
        ClipSpec(model=EMBEDDED).check()
    except BackboneError:
        return DOWNLOADED
    return ClipSpec(model=EMBEDDED)
