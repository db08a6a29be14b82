"""The promises of [classifier]: at most one of them, since labels that meet two of them are under neither."""

from __future__ import annotations

DEFAULT_SET_ERROR = 0.1
"""Probability with which a label set may lack the true label, where the job file does not say."""

TWO_PROMISES = (
    "max_error bounds the share of wrong labels among the labels given, and label sets how often a set lacks the true "
    "label: labels that are given only where both allow it are under neither promise. Remove one of them"
)
ESCALATED = (
    "no label set covers what a diffusion model decides: an image would have its label, and a set that may lack it. "
    "Remove guarantee, or [escalate]"
)


def check_promises(guarantee: str | None, *, label_set_error: float | None, max_error: float | None) -> None:
    """Check that keys of [classifier] promise one thing at most.

    Args:
        guarantee: "conformal" for label sets; None for none.
        label_set_error: probability of a set without the true label; None if it is not set.
        max_error: tolerated share of wrong labels among the labels given; None for any.

    Raises:
        ValueError: they promise two things, or half of one.
    """
    if guarantee is None and label_set_error is not None:
        raise ValueError('label_set_error belongs to label sets: add guarantee = "conformal", or remove it')
    if guarantee is not None and max_error is not None:
        raise ValueError(TWO_PROMISES)


def refuse_escalated_sets() -> None:
    """Say why [escalate] and `guarantee` cannot be combined.

    Raises:
        ValueError: always.
    """
    raise ValueError(ESCALATED)
