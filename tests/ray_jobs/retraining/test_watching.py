"""The watch over promoted versions, with predictions that are given: what takes them back, and what ends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_jobs.registry.learned_labels import LearnedLabels
from ray_jobs.registry.moves import Confirmed, RolledBack
from ray_jobs.retraining.turn import Rules
from ray_jobs.retraining.turn_facts import TurnFacts
from ray_jobs.retraining.turn_record import TurnRecord
from ray_jobs.retraining.watching import look_at_watched
from tests.ray_jobs.retraining.written_facts import Labels, WrittenRegistry, some

LEARNED = some(900, 2)
"""By the first version."""


@pytest.fixture
def registry(tmp_path: Path) -> WrittenRegistry:
    return WrittenRegistry(tmp_path)


def watch(registry: WrittenRegistry, *versions: tuple[Labels, Labels | None]) -> None:
    """Register and promote versions, given what they learned and predict; all but the first are watched."""
    for learned, predicted in versions:
        registry.promote(registry.register(learned, predicted))


def look(facts: TurnFacts) -> TurnRecord:
    record = TurnRecord(facts, "cron")
    look_at_watched(facts, record)
    return record


def moves(registry: WrittenRegistry) -> list[str]:
    return [
        entry.move.kind for entry in registry.journal.entries() if entry.move.kind not in ("registered", "promoted")
    ]


def test_a_watched_version_that_is_worse_is_taken_back(registry: WrittenRegistry) -> None:
    came = some(0, 30)
    watch(registry, (LEARNED, came), (LEARNED | some(910, 2), some(0, 29, "blue") | some(29, 1)))
    facts = registry.facts(came)
    record = look(facts)
    move = registry.journal.entries()[-1].move
    assert isinstance(move, RolledBack)
    assert (move.version, move.former, move.is_automatic) == (1, 2, True)
    assert move.evidence is not None
    assert (move.evidence.images, move.evidence.better, move.evidence.worse) == (30, 0, 29)
    assert move.evidence.log_harm > move.evidence.log_needed > move.evidence.log_evidence
    assert [(number, decision.step) for number, decision in record.decisions] == [(2, "roll back")]
    assert (facts.state.production, facts.state.shadow) == (1, None)


def test_a_harm_of_the_last_version_of_a_chain_goes_back_by_one(registry: WrittenRegistry) -> None:
    came, wrong = some(0, 30), some(0, 30, "blue")
    watch(registry, (LEARNED, wrong), (LEARNED | some(910, 2), came), (LEARNED | some(910, 4), wrong))
    facts = registry.facts(came)
    look(facts)
    assert (facts.state.production, facts.state.shadow, facts.state.watched) == (2, 1, (2,))


def test_a_harm_that_all_versions_of_a_chain_share_goes_back_to_before_it(registry: WrittenRegistry) -> None:
    came, wrong, to_second = some(0, 30), some(0, 30, "blue"), some(0, 15)
    watch(registry, (LEARNED, came), (LEARNED | some(910, 2), wrong), (LEARNED | to_second, wrong))
    facts = registry.facts(came)
    look(facts)
    assert (facts.state.production, facts.state.shadow, facts.state.rejected) == (1, None, {2, 3})


def test_a_watch_ends_over_the_first_versions_to_which_enough_labels_came(registry: WrittenRegistry) -> None:
    came, to_second = some(0, 25), some(0, 15)
    watch(registry, (LEARNED, came), (LEARNED | some(910, 2), came), (LEARNED | to_second, came))
    facts = registry.facts(came, rules=Rules(watch_labels=20))
    record = look(facts)
    move = registry.journal.entries()[-1].move
    assert isinstance(move, Confirmed)
    assert (move.version, move.evidence and move.evidence.images) == (2, 25)
    assert (facts.state.production, facts.state.shadow, facts.state.watched) == (3, 2, (3,))
    assert record.decisions[-1][1].why.startswith("no evidence of harm")


@pytest.mark.parametrize("to", [2, 3])
def test_what_is_shown_about_one_version_of_a_chain_ends_the_watch_up_to_it(registry: WrittenRegistry, to: int) -> None:
    came, wrong = some(0, 30), some(0, 30, "blue")
    watch(registry, (LEARNED, wrong), (LEARNED | some(910, 2), came), (LEARNED | (came if to == 2 else {}), came))
    facts = registry.facts(came)
    look(facts)
    assert registry.journal.entries()[-1].move.kind == "confirmed"
    assert facts.state.watched == ((3,) if to == 2 else ())


def test_a_comparison_that_decides_nothing_is_noted_once(registry: WrittenRegistry) -> None:
    came = some(0, 5)
    watch(registry, (LEARNED, came), (LEARNED | some(910, 2), came))
    look(registry.facts(came))
    assert moves(registry) == ["compared"]
    assert look(registry.facts(came)).decisions == []
    watch(registry, (LEARNED | came, came))  # Another version of the chain, which learned from all of them.
    look(registry.facts(came))
    assert moves(registry) == ["compared"]
    look(registry.facts(came | some(5, 1), labels=LearnedLabels(("amber", "blue"), {})))
    assert moves(registry) == ["compared"]  # Nobody predicted the sixth.


def test_both_comparisons_of_a_chain_are_noted_with_what_they_were_compared_with(registry: WrittenRegistry) -> None:
    came = some(0, 8)
    watch(registry, (LEARNED, came), (LEARNED | some(910, 2), came), (LEARNED | some(0, 5), came))
    look(registry.facts(came))
    found = [entry.move for entry in registry.journal.entries() if entry.move.kind == "compared"]
    assert [(each.version, each.against, each.evidence.images) for each in found] == [(3, 2, 3), (3, 1, 8)]


def test_nothing_is_predicted_where_no_label_came_since_the_watch_began(registry: WrittenRegistry) -> None:
    watch(registry, (LEARNED, None), (LEARNED | some(0, 5), None), (LEARNED | some(0, 9), None))
    assert look(registry.facts(some(0, 5))).decisions == []
    assert look(registry.facts()).decisions == []


def test_without_any_change_of_labels_nothing_is_read_or_compared(registry: WrittenRegistry) -> None:
    """Each label was looked at before production learned from it."""
    watch(registry, (LEARNED, None), (LEARNED | some(0, 15), None), (LEARNED | some(0, 30), None))
    now = LearnedLabels(("amber", "blue"), dict.fromkeys(LEARNED | some(0, 30), ("amber",)))
    facts = registry.facts(some(0, 30), labels=now)
    assert (look(facts).decisions, facts._labels_of) == ([], {})


def test_versions_to_which_no_label_came_predict_nothing(registry: WrittenRegistry) -> None:
    came, to_second = some(0, 30), some(0, 15)
    third, fourth = LEARNED | to_second, LEARNED | to_second | some(910, 2)
    watch(registry, (LEARNED, came), (LEARNED | some(910, 2), came), (third, None), (fourth, came), (fourth, came))
    look(registry.facts(came))
    found = [entry.move for entry in registry.journal.entries() if entry.move.kind == "compared"]
    assert [(each.version, each.against, each.evidence.images) for each in found] == [(5, 4, 15), (5, 1, 30)]
