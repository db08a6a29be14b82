"""Warnings about trainings among very many classes: what they take, and what `auto` leaves out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fewshot.methods.declarations import hyperparameters_of
from fewshot.methods.table import MAX_PROBE_CLASSES, METHODS, comparable

PROBE_SECONDS = 2e-5
"""CPU-seconds of a whole `linear_probe` for each pair of an example and a class, with 512 channels: an estimate of
600 gradients of 3.5e-8 seconds, which is what they take with 2,000 classes."""


def warnings_about_training(
    method: str, hyperparameters: Mapping[str, Any], *, classes: int, examples: int
) -> Iterator[str]:
    """Yield a sentence for what a user should know of a training before it begins.

    Args:
        method: that is trained.
        hyperparameters: those given.
        classes: K.
        examples: M.
    """
    candidates = _candidates(method, hyperparameters)
    compared = comparable(candidates, classes=classes)
    if left_out := [name for name in candidates if name not in compared]:
        yield (
            f"{method} does not compare {' and '.join(left_out)}: there are {classes:,} classes, and they are compared"
            f" among at most {MAX_PROBE_CLASSES:,}. Set method to one of them to have it in any case."
        )
    slow = [name for name in compared if classes > (METHODS[name].compared_up_to or classes)]
    if slow and hyperparameters.get("strength") is None:
        hours = PROBE_SECONDS * classes * examples / 3600
        yield (
            f"{slow[0]} takes about {hours:,.0f} CPU-hours to choose its strength with {examples:,} examples of"
            f" {classes:,} classes, which grows with both numbers. Set hyperparameters.strength (10 where nothing is"
            " known), or take gda, which has one solution in closed form."
        )


def _candidates(method: str, hyperparameters: Mapping[str, Any]) -> Sequence[str]:
    """Return the candidates given to a method, its own, or the method itself."""
    own = {each.name: each.default for each in hyperparameters_of(method)}
    candidates = hyperparameters.get("candidates", own.get("candidates"))
    return candidates if isinstance(candidates, list | tuple) else [method]
