"""What a turn knows of versions: which classifier predicts which images, and by which names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from ray_jobs.registry.learned_labels import LearnedLabels
from ray_jobs.registry.moves import Accepted, Version
from ray_jobs.retraining.fresh_labels import ComparedVersion
from ray_jobs.retraining.turn_facts import TurnFacts
from ray_jobs.retraining.versions import twin_contents
from tests.ray_jobs.retraining.written_facts import WrittenRegistry, some

LEARNED = some(0, 20) | some(20, 10, "blue")
PRESENT = LearnedLabels(
    ("amber", "sky"), {content: ("sky" if label == "blue" else label,) for content, label in LEARNED.items()}
)
"""The same images, and class blue has another name."""


class AskedPredictor:
    """Keeps what it was asked, and predicts nothing."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Collection[str], Mapping[str, str], Collection[str]]] = []

    def predict(
        self, version: Version, learned: Collection[str], renamed: Mapping[str, str], contents: Collection[str]
    ) -> ComparedVersion:
        self.asked.append((version.folder, learned, renamed, contents))
        return ComparedVersion(frozenset(), learned, {})


@pytest.fixture
def facts(tmp_path: Path) -> TurnFacts:
    """Facts of a registry with one version, whose predictor keeps what it was asked."""
    registry = WrittenRegistry(tmp_path)
    registry.promote(registry.register(LEARNED))
    facts = registry.facts(labels=PRESENT)
    vars(facts)["_predictor"] = AskedPredictor()
    return facts


def asked(facts: TurnFacts) -> list[tuple[str, Collection[str], Mapping[str, str], Collection[str]]]:
    predictor = vars(facts)["_predictor"]
    assert isinstance(predictor, AskedPredictor)
    return predictor.asked


def test_a_twin_predicts_what_was_held_back_from_it_and_a_version_what_it_did_not_learn(facts: TurnFacts) -> None:
    version = facts.state.version(1)
    known = twin_contents(facts.learned(version))
    assert 0 < len(known) < len(LEARNED)
    facts.compared(1, twin=True)
    facts.compared(1)
    (of_twin, of_version) = asked(facts)
    assert of_twin[0] == version.twin != version.folder
    assert (set(of_twin[1]), set(of_twin[3])) == (set(known), LEARNED.keys() - known)
    assert of_version[0] == version.folder
    assert (set(of_version[1]), set(of_version[3])) == (LEARNED.keys(), set())


def test_predictions_and_classes_have_the_present_names(facts: TurnFacts) -> None:
    facts.compared(1)
    assert asked(facts)[0][2] == {"blue": "sky"}
    assert facts.names_of(facts.state.version(1)) == {"amber", "sky"}


def test_predictions_are_asked_for_once(facts: TurnFacts) -> None:
    assert facts.compared(1) is facts.compared(1)
    assert len(asked(facts)) == 1


def test_labels_that_were_accepted_are_not_refused_and_others_are(tmp_path: Path) -> None:
    registry = WrittenRegistry(tmp_path)
    registry.promote(registry.register(some(0, 8), some(100, 60)))
    wrong = LearnedLabels(("amber", "blue"), dict.fromkeys(some(100, 30), ("blue",)))
    now = LearnedLabels(("amber", "blue"), wrong.of_content | dict.fromkeys(some(0, 8), ("amber",)))
    assert len(registry.facts(labels=now).refused) == 1
    digest = now.put(registry.journal.store, registry.journal.folder)
    registry.move(Accepted(labels=digest, days=("examples",), classes=("blue",)))
    assert registry.facts(labels=now).refused == []
    more = LearnedLabels(now.classes, now.of_content | dict.fromkeys(some(130, 30), ("blue",)))
    (night,) = registry.facts(labels=more).refused
    assert night.labels.keys() == some(130, 30).keys()
