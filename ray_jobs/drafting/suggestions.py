"""Choose settings of a new job by what its examples are."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from fewshot.backbones.clip_spec import EMBEDDED, ClipSpec
from fewshot.errors import BackboneError
from ray_jobs.inputs.class_warnings import MIN_EXAMPLES

MAX_SHOTS = 64
"""Examples of a class beyond which more cost time and gain little."""
MAX_FORWARDS = 15_000
"""Images and augmented views of examples together that are embedded without a second thought: minutes on a CPU."""
VIEWS = (10, 2, 0)
"""Augmented views to choose from."""
MAX_HELD_OUT = 2048
"""Held-out examples that calibration uses at most."""
THRESHOLDS_TRIED = 10
"""Thresholds that calibration tries, each with its share of the permitted failure probability."""
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


def suggest_views(examples: int) -> int:
    """Return how many augmented views of each example to embed, so that all of it is done in minutes.

    Args:
        examples: number of examples that are used.
    """
    return next((views for views in VIEWS if examples * (1 + views) <= MAX_FORWARDS), VIEWS[-1])


def suggest_clip() -> ClipSpec:
    """Return the embedded CLIP if its packages are installed, else one that is downloaded."""
    try:
        ClipSpec(model=EMBEDDED).check()
    except BackboneError:
        return DOWNLOADED
    return ClipSpec(model=EMBEDDED)


def held_out_examples(counts: Collection[int]) -> int:
    """Return how many examples calibration holds out: those of classes with another one.

    With at most one example a class, all are held out, and compared with the names of their classes.

    Args:
        counts: number of examples of each class.
    """
    held_out = sum(count for count in counts if count >= MIN_EXAMPLES)
    return min(held_out or sum(counts), MAX_HELD_OUT)


def needed_examples(max_error: float, confidence: float) -> int:
    """Return how many held-out examples, all labelled right, show an error rate.

    The exact bound (Clopper-Pearson) for no mistake among n is `1 - delta ** (1 / n)`, see `fewshot.calibration`.

    Args:
        max_error: in (0, 1).
        confidence: in (0, 1).
    """
    return math.ceil(math.log(_delta(confidence)) / math.log1p(-max_error) - 1e-9)


def least_error(held_out: int, confidence: float) -> float | None:
    """Return the least error rate that so many held-out examples can show, None if there are none.

    Args:
        held_out: number of examples.
        confidence: in (0, 1).
    """
    return 1.0 - _delta(confidence) ** (1.0 / held_out) if held_out else None


def _delta(confidence: float) -> float:
    return (1.0 - confidence) / THRESHOLDS_TRIED
