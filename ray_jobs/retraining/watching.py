"""The watch over what was promoted: labels that came later either take it back or end the watch."""

from __future__ import annotations

from ray_jobs.registry.moves import Confirmed, RolledBack
from ray_jobs.retraining.fresh_labels import ComparedVersion, FreshLabel, compare
from ray_jobs.retraining.turn import Decision, decide_watch
from ray_jobs.retraining.turn_facts import TurnFacts
from ray_jobs.retraining.turn_record import TurnRecord, evidence_of


def look_at_watched(facts: TurnFacts, record: TurnRecord) -> None:
    """Compare what is watched with what it replaced, and go back on evidence of harm.

    The version in production is compared with the one before it, and all that are watched with the one before the
    first, so that a small harm in each of them is seen.

    Args:
        facts: of the turn; nothing is done where no version is watched.
        record: takes the moves.
    """
    state, production = facts.state, facts.production
    if state.shadow is None or production is None:
        return
    if production.labels == facts.labels.digest:
        return  # Each label was looked at before production learned from it.
    oldest = state.version(state.watched[0]) if len(state.watched) > 1 else production
    if all(label.content in facts.learned(oldest).of_content for label in facts.evidence.labels):
        return  # No label came later, and no model need be loaded to know it.
    labels = facts.fresh_labels
    chain = _chain(facts, labels)
    former = (state.shadow, *state.watched)[-2]
    own = compare(labels, chain[-1:], facts.compared(former))
    whole = None if len(chain) == 1 else compare(labels, chain, facts.compared(state.shadow))
    decision, of_chain = decide_watch(own, whole, facts.rules)
    last = of_chain or decision
    if of_chain is not None and of_chain.step == "roll back":
        _roll_back(record, production.number, state.shadow, of_chain)
    elif decision.step == "roll back":
        _roll_back(record, production.number, former, decision)
    elif last.step == "confirm" and last.compared is not None:
        enough = last.compared.watched_enough(facts.rules.watch_labels) or last.compared.newer[-1] + 1
        record.append(Confirmed(version=state.watched[enough - 1], evidence=evidence_of(last)), last)
    else:
        record.note(production.number, former, decision)
        if of_chain is not None:
            record.note(production.number, state.shadow, of_chain)


def _roll_back(record: TurnRecord, production: int, to: int, decision: Decision) -> None:
    move = RolledBack(version=to, former=production, is_automatic=True, evidence=evidence_of(decision))
    record.append(move, decision)


def _chain(facts: TurnFacts, labels: list[FreshLabel]) -> list[ComparedVersion]:
    """The watched versions; only those to which labels came predict anything."""
    contents = {label.content for label in labels}
    left, chain = set(contents), []
    for version in map(facts.state.version, reversed(facts.state.watched)):
        learned = contents & facts.learned(version).of_content.keys()
        came = left - learned
        left -= came
        if came:
            chain.append(facts.compared(version.number))
        else:
            chain.append(ComparedVersion(facts.names_of(version), learned, {}))
    return chain[::-1]
