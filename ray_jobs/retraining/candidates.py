"""The candidate: what was trained last is promoted, rejected, or waits for labels that show what it is worth."""

from __future__ import annotations

from ray_jobs.registry.learned_labels import diff_labels
from ray_jobs.registry.moves import Promoted, Rejected, Version
from ray_jobs.retraining.fresh_labels import FreshLabel, LabelComparison, compare
from ray_jobs.retraining.turn import Decision, decide_by_held_back, decide_frozen, some_of
from ray_jobs.retraining.turn_facts import TurnFacts
from ray_jobs.retraining.turn_record import TurnRecord, evidence_of
from ray_jobs.retraining.versions import is_held_back


def drop_or_decide(facts: TurnFacts, record: TurnRecord) -> None:
    """Ask the gate about a candidate that waits, and drop one that is not decided and was trained for what is gone.

    What labels say about a frozen classifier holds also if some that it learned from were corrected: were it dropped
    for one of them, nothing would ever be shown in a project that corrects a label every night.

    Args:
        facts: of the turn; nothing is done without a candidate.
        record: takes the moves.
    """
    if facts.state.candidate is None:
        return
    candidate = facts.state.version(facts.state.candidate)
    if why := _useless(facts, candidate):
        record.append(Rejected(version=candidate.number), Decision("reject", why))
        return
    if facts.acceptance != "force" or candidate.labels == facts.labels.digest:
        decide_candidate(facts, record)
    if facts.state.candidate == candidate.number and (why := _outlived(facts, candidate)):
        record.append(Rejected(version=candidate.number), Decision("reject", why))


def _useless(facts: TurnFacts, candidate: Version) -> str:
    """Why a candidate must not be promoted, whatever labels show; empty if it may be."""
    if candidate.settings != facts.settings:
        return "the settings of the job changed since it was trained"
    removed = facts.changes_since(candidate).removed_classes
    return f"it knows classes that were removed: {some_of(removed)}" if removed else ""


def _outlived(facts: TurnFacts, candidate: Version) -> str:
    """Why nothing more is asked about a candidate; empty unless most of the labels that set it apart were corrected.

    Labels that are refused correct nothing.
    """
    since = facts.changes_since(candidate)
    refused = {content for night in facts.refused for content in night.labels}
    gone = {*since.removed, *since.relabelled} - refused
    if facts.production is None or not gone:
        return ""
    own = diff_labels(facts.learned(facts.production), facts.learned(candidate))
    apart = {*own.added, *own.removed, *own.relabelled}
    if 2 * len(gone & apart) <= len(apart):
        return ""
    return f"{len(gone & apart):,} of the {len(apart):,} labels that it learned anew were corrected or undone"


def decide_candidate(facts: TurnFacts, record: TurnRecord) -> None:
    """Ask the gate about the candidate. What it says follows from what is stored, so a turn may be ended before.

    Args:
        facts: of the turn; nothing is done without a candidate.
        record: takes the move.
    """
    number, production = facts.state.candidate, facts.production
    if number is None:
        return
    if production is None:
        _promote(record, number, Decision("promote", "the first version"))
        return
    if facts.acceptance == "force":
        _promote(record, number, Decision("promote", "by force, without asking the gate"), is_forced=True)
        return
    decision = _ask_gate(facts, facts.state.version(number), production)
    if decision.step == "promote":
        _promote(record, number, decision)
    elif decision.step == "reject":
        record.append(Rejected(version=number, evidence=evidence_of(decision)), decision)
    else:
        record.comparison = decision.compared
        record.note(number, production.number, decision)


def _promote(record: TurnRecord, number: int, decision: Decision, *, is_forced: bool = False) -> None:
    former = record.facts.state.production
    is_shown = decision.basis == "fresh labels" and record.facts.state.shadow is None  # Else the watch goes on.
    is_watched = former is not None and not is_forced and not is_shown
    evidence = None if decision.result is None else evidence_of(decision)
    move = Promoted(version=number, former=former, is_watched=is_watched, is_forced=is_forced, evidence=evidence)
    record.append(move, decision)


def _ask_gate(facts: TurnFacts, candidate: Version, production: Version) -> Decision:
    """Decide by labels that came later, where a candidate has to wait for them, or by held-back examples.

    These stand in for labels only where no label is evidence at all: they are of other images than the archive's, and
    a candidate would have two chances.
    """
    new_classes = diff_labels(facts.learned(production), facts.learned(candidate)).new_classes
    if facts.rules.is_frozen(facts.state) and (facts.state.fell_back or not new_classes):
        chain, labels = [facts.compared(candidate.number)], facts.fresh_labels
        compared = compare(labels, chain, facts.compared(production.number))
        if facts.evidence.labels:
            return decide_frozen(compared, facts.state, facts.rules)
        new_classes = ()
    return decide_by_held_back(_on_held_back(facts, candidate, production), facts.state, facts.rules, new_classes)


def _on_held_back(facts: TurnFacts, candidate: Version, production: Version) -> LabelComparison:
    """Twins of both on examples that they did not learn from, and that predictions did not choose."""
    learned, chosen = facts.learned(candidate), facts.evidence.chosen
    examples = [
        FreshLabel(content, names[0])
        for content, names in sorted(facts.labels.of_content.items())
        if len(names) == 1 and is_held_back(content) and content in learned.of_content and content not in chosen
    ]
    twins = [facts.compared(each.number, twin=True) for each in (candidate, production)]
    return compare(examples, twins[:1], twins[1])
