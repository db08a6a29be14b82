"""Candidates, with predictions that are given: which are dropped, what the gate compares, and who is watched."""

from __future__ import annotations

from itertools import count, islice
from pathlib import Path

import pytest

from ray_jobs.registry.learned_labels import LearnedLabels
from ray_jobs.registry.moves import Move, Promoted, Rejected, RolledBack
from ray_jobs.retraining.candidates import decide_candidate, drop_or_decide
from ray_jobs.retraining.training import accept_labels, train_if_due
from ray_jobs.retraining.turn import NO_EVIDENCE, Rules
from ray_jobs.retraining.turn_facts import TurnFacts
from ray_jobs.retraining.turn_record import TurnRecord
from ray_jobs.retraining.versions import is_held_back
from tests.ray_jobs.retraining.written_facts import Labels, WrittenRegistry, some

SUPERIOR = Rules("superior")
HELD_BACK = tuple(islice((f"{n:x}" for n in count() if is_held_back(f"{n:x}")), 12))
"""Contents that no twin learns from."""
OTHERS = tuple(islice((f"{n:x}" for n in count() if not is_held_back(f"{n:x}")), 8))
LEARNED = dict.fromkeys(OTHERS, "amber")
"""By production; the candidates learn from the contents that are held back, too."""
CAME = some(0, 30)


@pytest.fixture
def registry(tmp_path: Path) -> WrittenRegistry:
    """A registry with a version in production that calls all images amber."""
    registry = WrittenRegistry(tmp_path)
    everything = CAME | dict.fromkeys((*HELD_BACK, *OTHERS), "amber")
    registry.promote(registry.register(LEARNED, everything, twin=everything))
    return registry


def labels(given: Labels, *, classes: tuple[str, ...] = ("amber", "blue")) -> LearnedLabels:
    return LearnedLabels(classes, {content: (label,) for content, label in given.items()})


def decide(facts: TurnFacts) -> TurnRecord:
    record = TurnRecord(facts, "cron")
    drop_or_decide(facts, record)
    return record


def last(registry: WrittenRegistry) -> Move:
    return registry.journal.entries()[-1].move


ANEW = {"x": "amber", "y": "blue", "z": "blue"}
"""What a candidate learned beside the labels that production knows."""


@pytest.mark.parametrize("left", [{"z": "blue"}, {"x": "blue", "y": "amber", "z": "blue"}])
def test_a_candidate_most_of_whose_labels_no_longer_hold_is_dropped(registry: WrittenRegistry, left: Labels) -> None:
    registry.register(LEARNED | ANEW, CAME)
    facts = registry.facts(CAME, labels=labels(LEARNED | left), rules=SUPERIOR)
    decisions = [decision for _, decision in decide(facts).decisions]
    assert [each.step for each in decisions] == ["hold", "reject"]  # The gate is asked first.
    assert decisions[-1].why == "2 of the 3 labels that it learned anew were corrected or undone"
    assert last(registry) == Rejected(version=2)
    assert facts.state.candidate is None


@pytest.mark.parametrize("left", [{"y": "blue", "z": "blue"}, ANEW | {"x": "blue"}])
def test_a_candidate_with_a_label_that_was_corrected_waits_on(registry: WrittenRegistry, left: Labels) -> None:
    registry.register(LEARNED | ANEW, CAME)
    facts = registry.facts(CAME, labels=labels(LEARNED | left), rules=SUPERIOR)
    assert [decision.step for _, decision in decide(facts).decisions] == ["hold"]
    assert facts.state.candidate == 2


def test_labels_that_are_refused_drop_no_candidate(registry: WrittenRegistry) -> None:
    anew = some(0, 30)
    registry.register(LEARNED | anew, some(40, 5))
    wrong = labels(LEARNED | dict.fromkeys(anew, "blue"))
    facts = registry.facts(some(40, 5), labels=wrong, rules=SUPERIOR)
    decide(facts)
    assert len(facts.refused) == 1
    assert facts.state.candidate == 2


def test_without_a_label_that_came_later_a_candidate_waits_although_held_back_examples_speak_for_it(
    registry: WrittenRegistry,
) -> None:
    held_back_candidate(registry, "amber")
    facts = registry.facts(
        {OTHERS[0]: "amber"}, labels=labels(LEARNED | dict.fromkeys(HELD_BACK, "amber")), rules=SUPERIOR
    )
    (decision,) = [decision for _, decision in decide(facts).decisions]
    assert (decision.step, decision.why) == ("hold", NO_EVIDENCE)
    assert facts.state.candidate == 2


def test_a_candidate_of_other_settings_or_of_a_class_that_is_gone_is_dropped(registry: WrittenRegistry) -> None:
    registry.register(LEARNED, settings="6" * 16)
    assert decide(registry.facts()).decisions[0][1].why == "the settings of the job changed since it was trained"
    registry.register(LEARNED, classes=("amber", "blue", "cyan"))
    decide(registry.facts(labels=labels(LEARNED)))
    assert last(registry) == Rejected(version=3)


@pytest.mark.parametrize("label", ["amber", "blue"])
def test_a_candidate_waits_for_labels_that_came_later_and_they_decide(registry: WrittenRegistry, label: str) -> None:
    registry.register(LEARNED | {"x": "amber"}, some(0, 30, "blue"))
    came = some(0, 30, label)
    now = labels(LEARNED | {"x": "amber"} | came)
    facts = registry.facts(came, labels=now, rules=SUPERIOR, acceptance="labels")
    accept_labels(facts, TurnRecord(facts, "ann"))
    decide(facts)
    move = last(registry)
    if label == "amber":
        assert (move.kind, facts.state.production) == ("rejected", 1)
    else:
        assert isinstance(move, Promoted)
        assert (move.version, move.is_watched, move.evidence and move.evidence.better) == (2, False, 30)


def test_a_candidate_that_is_held_is_compared_in_each_turn_and_noted_once(registry: WrittenRegistry) -> None:
    registry.register(LEARNED | {"x": "amber"}, CAME)
    for _ in range(2):
        facts = registry.facts(CAME, labels=labels(LEARNED | {"x": "amber"}), rules=SUPERIOR)
        record = decide(facts)
        assert record.comparison is not None
        assert [(number, decision.step) for number, decision in record.decisions] == [(2, "hold")]
    assert [entry.move.kind for entry in registry.journal.entries()][3:] == ["compared"]


def held_back_candidate(registry: WrittenRegistry, label: str, *, classes: tuple[str, ...] = ("amber", "blue")) -> None:
    """Register a candidate that learned from examples that are held back, and whose twin gives all a label."""
    learned = LEARNED | dict.fromkeys(HELD_BACK, "amber")
    registry.register(learned, {}, twin=dict.fromkeys(learned, label), classes=classes)


@pytest.mark.parametrize(("label", "kind"), [("amber", "promoted"), ("blue", "rejected")])
def test_a_candidate_that_need_not_wait_is_compared_by_its_twin(
    registry: WrittenRegistry, label: str, kind: str
) -> None:
    held_back_candidate(registry, label)
    facts = registry.facts(labels=labels(LEARNED | dict.fromkeys(HELD_BACK, "amber")), acceptance="labels")
    decide(facts)
    move = last(registry)
    assert isinstance(move, Promoted | Rejected)
    assert move.kind == kind
    assert move.evidence is not None
    assert (move.evidence.images, move.evidence.worse) == (12, 12 if label == "blue" else 0)
    assert (facts.state.shadow, facts.state.watched) == ((1, (2,)) if kind == "promoted" else (None, ()))


def test_only_plain_examples_that_predictions_did_not_choose_are_held_back(registry: WrittenRegistry) -> None:
    held_back_candidate(registry, "amber")
    of_content = dict.fromkeys((*OTHERS, *HELD_BACK), ("amber",))
    of_content[HELD_BACK[0]] = ("amber", "blue")
    of_content["later"] = ("amber",)
    now = LearnedLabels(("amber", "blue"), of_content)
    facts = registry.facts(labels=now, chosen=frozenset(HELD_BACK[1:4]), acceptance="labels")
    decide_candidate(facts, TurnRecord(facts, "cron"))
    move = last(registry)
    assert isinstance(move, Promoted)
    assert move.evidence is not None
    assert move.evidence.images == len(HELD_BACK) - 4


def test_a_new_class_does_not_wait_unless_production_was_gone_back_to(registry: WrittenRegistry) -> None:
    classes = ("amber", "blue", "gold")
    now = labels(LEARNED | dict.fromkeys(HELD_BACK, "amber"), classes=classes)
    registry.promote(registry.register(LEARNED, {}), is_watched=False)
    registry.move(RolledBack(version=1, former=2))
    held_back_candidate(registry, "amber", classes=classes)
    facts = registry.facts(labels=now, acceptance="labels")
    assert decide(facts).decisions[-1][1].why.startswith("waiting for labels of audits")
    assert (facts.state.production, facts.state.candidate) == (1, 3)


def test_a_new_class_is_promoted_at_once_by_a_policy_that_waits(registry: WrittenRegistry) -> None:
    classes = ("amber", "blue", "gold")
    held_back_candidate(registry, "amber", classes=classes)
    now = labels(LEARNED | dict.fromkeys(HELD_BACK, "amber"), classes=classes)
    facts = registry.facts(labels=now, rules=SUPERIOR, acceptance="labels")
    assert "gold: new, and not waiting" in decide(facts).decisions[-1][1].why
    assert (facts.state.production, facts.state.watched) == (2, (2,))


def test_force_promotes_a_candidate_of_the_present_labels_and_nobody_watches_it(registry: WrittenRegistry) -> None:
    registry.register(LEARNED | {"x": "amber"})
    later = registry.facts(labels=labels(LEARNED | {"x": "amber", "y": "amber"}), acceptance="force")
    assert decide(later).decisions == []  # The version of all labels is trained first.
    facts = registry.facts(labels=labels(LEARNED | {"x": "amber"}), acceptance="force")
    decide(facts)
    assert last(registry) == Promoted(version=2, former=1, is_forced=True)
    assert facts.state.watched == ()


def test_refused_labels_are_told_in_each_turn_and_noted_once(registry: WrittenRegistry) -> None:
    """The lease is asked for nothing: no version is trained."""
    wrong = labels(LEARNED | some(0, 30, "blue"))
    for _ in range(2):
        record = TurnRecord(registry.facts(labels=wrong), "cron")
        assert not train_if_due(record.facts, record, lease=None)  # type: ignore[arg-type]
        assert [(number, decision.step) for number, decision in record.decisions] == [(None, "refuse")]
        assert record.facts.fresh_labels == []
    found = [entry.move for entry in registry.journal.entries()][2:]
    assert [(each.kind, each.images, each.agreeing, each.days) for each in found] == [("refused", 30, 0, ("examples",))]  # type: ignore[union-attr]
