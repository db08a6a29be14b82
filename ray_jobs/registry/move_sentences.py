"""Moves of a journal and their evidence in sentences, for people who want to know what happened and why."""

from __future__ import annotations

import math

from ray_jobs.registry.moves import (
    Accepted,
    Compared,
    Confirmed,
    Evidence,
    Move,
    Promoted,
    Pruned,
    Refused,
    Registered,
    Rejected,
    RolledBack,
    is_by_hand,
)

LARGEST_FACTOR = 1_000_000
"""A larger one is as good as certain, and not written out."""
IMAGES = {"fresh labels": "images labelled later", "held-back examples": "held-back examples"}
"""By the basis of evidence, what the two versions were compared on."""


def move_sentence(move: Move) -> str:
    """Return what was done, such as "version 3 was promoted by hand, in place of version 2"."""
    how = " by hand" if is_by_hand(move) else ""
    match move:
        case Registered(version=version):
            beside = "" if version.parent is None else f", beside version {version.parent} in production"
            return f"version {version.number} was trained{beside}"
        case Refused(days=days, images=images, agreeing=agreeing, expected=expected, classes=classes):
            counts = f"production agrees with {agreeing:,} of {images:,}, and expected {expected:,.0f}"
            return f"new labels ({', '.join(days)}) were refused: {counts}; look at {', '.join(classes)}"
        case Accepted(days=days, classes=classes):
            return f"new labels ({', '.join(days)}) that contradict production were accepted; of {', '.join(classes)}"
        case Compared(version=number, against=against):
            return f"version {number} was compared with version {against}; nothing was moved"
        case Promoted(version=number, former=former, is_watched=is_watched):
            place = "" if former is None else f", in place of version {former}"
            watched = ", and is watched" if is_watched else ""
            return f"version {number} was promoted{how}{place}{watched}"
        case Rejected(version=number):
            return f"version {number} was rejected{how}"
        case RolledBack(version=number, former=former):
            return f"version {former} was taken back{how or ' automatically'}, and version {number} restored"
        case Confirmed(version=number):
            ended = f"the watch over version {number} and those before it ended"
            return f"{ended}{how or '; they did no harm'}"
        case Pruned(versions=numbers):
            versions = f"version{'s' * (len(numbers) != 1)} {', '.join(map(str, numbers))}"
            return f"the stored classifiers of {versions} were removed"


def evidence_sentence(evidence: Evidence) -> str:
    """Return what a decision about the newer version rests on: counts and, where a bet decides, the odds."""
    newer_alone = f"of {evidence.images:,} {IMAGES[evidence.basis]}, the newer version alone is right on"
    counts = f"{newer_alone} {evidence.better:,}, the older one alone on {evidence.worse:,}"
    if evidence.basis == "held-back examples":
        return counts
    newer, older, needed = map(factor, (evidence.log_evidence, evidence.log_harm, evidence.log_needed))
    return f"{counts}; odds for the newer one {newer}, against it {older}; {needed} decides"


def factor(log_evidence: float) -> str:
    """Return the evidence of a logarithm as odds, such as "20 : 1", or "1 : 3.5" where it speaks against."""
    ratio = math.exp(min(abs(log_evidence), math.log(LARGEST_FACTOR)))
    text = f"{ratio:,.0f}" if ratio >= 9.95 else f"{ratio:.1f}".removesuffix(".0")
    text = f"over {text}" if ratio >= LARGEST_FACTOR * (1 - 1e-9) else text
    return f"{text} : 1" if log_evidence >= 0 else f"1 : {text}"
