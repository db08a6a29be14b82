"""What people read of moves and of the evidence they rest on."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from ray_jobs.registry.move_sentences import evidence_sentence, factor, move_sentence
from ray_jobs.registry.moves import (
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
)
from tests.ray_jobs.registry.registered import EVIDENCE, version


@pytest.mark.parametrize(
    ("log_evidence", "text"),
    [
        (math.log(20), "20 : 1"),
        (math.log(3.52), "3.5 : 1"),
        (0.0, "1 : 1"),
        (-math.log(12), "1 : 12"),
        (math.log(9.96), "10 : 1"),
        (math.log(12345), "12,345 : 1"),
        (2000.0, "over 1,000,000 : 1"),
        (-2000.0, "1 : over 1,000,000"),
    ],
)
def test_evidence_is_written_as_odds(log_evidence: float, text: str) -> None:
    assert factor(log_evidence) == text


@pytest.mark.parametrize(
    ("move", "sentence"),
    [
        (Registered(version=version(1)), "version 1 was trained"),
        (Registered(version=version(2, parent=1)), "version 2 was trained, beside version 1 in production"),
        (
            Refused(labels="0", days=("2026-11-30",), images=40, agreeing=22, expected=34.6, classes=("amber",)),
            "new labels (2026-11-30) were refused: production agrees with 22 of 40, and expected 35; look at amber",
        ),
        (Compared(version=2, against=1, evidence=EVIDENCE), "version 2 was compared with version 1; nothing was moved"),
        (Promoted(version=1, former=None), "version 1 was promoted"),
        (
            Promoted(version=2, former=1, is_watched=True),
            "version 2 was promoted, in place of version 1, and is watched",
        ),
        (Promoted(version=2, former=1, is_forced=True), "version 2 was promoted by hand, in place of version 1"),
        (Rejected(version=2), "version 2 was rejected"),
        (Rejected(version=2, is_forced=True), "version 2 was rejected by hand"),
        (RolledBack(version=1, former=2), "version 2 was taken back by hand, and version 1 restored"),
        (
            RolledBack(version=1, former=2, is_automatic=True),
            "version 2 was taken back automatically, and version 1 restored",
        ),
        (
            Confirmed(version=2, evidence=EVIDENCE),
            "the watch over version 2 and those before it ended; they did no harm",
        ),
        (Pruned(versions=(1,)), "the stored classifiers of version 1 were removed"),
        (Pruned(versions=(1, 3)), "the stored classifiers of versions 1, 3 were removed"),
    ],
)
def test_every_move_has_a_sentence(move: Move, sentence: str) -> None:
    assert move_sentence(move) == sentence


def test_evidence_is_told_by_counts_and_odds() -> None:
    assert evidence_sentence(EVIDENCE) == (
        "of 100 images labelled later, the newer version alone is right on 9, the older one alone on 2; odds for the"
        " newer one 3.5 : 1, against it 1 : 12; 16 : 1 decides"
    )
    held_back = replace(EVIDENCE, basis="held-back examples")
    assert evidence_sentence(held_back) == (
        "of 100 held-back examples, the newer version alone is right on 9, the older one alone on 2"
    )


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_evidence_that_could_not_be_read_back_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="expected finite logarithms"):
        Evidence(images=1, better=0, worse=1, log_evidence=value, log_harm=0.0, log_needed=3.0)
