"""Whether a version is to be trained in this turn, and training it: a classifier and its twin are registered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cluster import Lease
from ray_jobs.classification.classify import Classification, embed_and_train
from ray_jobs.classification.unknown_plan import keep_known_examples
from ray_jobs.registry.moves import Accepted, Refused, Registered, Version
from ray_jobs.retraining.fresh_labels import fresh_for
from ray_jobs.retraining.label_nights import Night, mostly_seen_as
from ray_jobs.retraining.turn import SHOWN, Decision, agreement_of, classes_of, decide_nights, some_of
from ray_jobs.retraining.turn_facts import TurnFacts
from ray_jobs.retraining.turn_record import TurnRecord
from ray_jobs.retraining.versions import for_twin, version_of
from ray_jobs.steps.set_examples import keep_examples


def accept_labels(facts: TurnFacts, record: TurnRecord) -> None:
    """Note that a person accepts the labels that would be refused, so that they are not refused later, either.

    Args:
        facts: of the turn; nothing is done where nothing is accepted, or nothing would be refused.
        record: takes the move.
    """
    if facts.acceptance == "gate" or not (nights := facts.refused):
        return
    digest, classes = facts.labels.put(facts.journal.store, facts.journal.folder), classes_of(nights)
    move = Accepted(labels=digest, days=_days_of(nights), classes=classes)
    record.append(move, Decision("accept", f"labels that contradict production, of {some_of(classes)}"))
    facts.labels_were_accepted()


def train_if_due(facts: TurnFacts, record: TurnRecord, lease: Lease) -> bool:
    """Train a version from the present labels, unless it is there, or labels are refused.

    Args:
        facts: of the turn.
        record: takes the moves.
        lease: is checked before the version is registered.

    Returns:
        whether there is a new candidate.
    """
    if nights := facts.refused:
        _refuse(facts, record, nights)
        return False
    if is_due := _is_due(facts):
        _train(facts, record, lease)
    return is_due


def _is_due(facts: TurnFacts) -> bool:
    """Whether no version makes training needless, and no candidate waits for more labels."""
    state = facts.state
    known = state.version_of(facts.settings, facts.labels.digest)
    if known is not None and not _renews(facts.work, known):
        return facts.acceptance == "force" and known.number not in (state.production, state.candidate)
    if state.candidate is None or facts.acceptance == "force":
        return True
    diff = facts.changes_since(state.version(state.candidate))
    return bool(diff.new_classes) or not _is_compared(facts, state.candidate)


def _renews(work: Classification, known: Version) -> bool:
    """Whether a new sample of the archive is asked for, and a version learned from another one."""
    is_asked = work.job.classifier.archive_sample == "renew"
    return is_asked and work.sample is not None and work.sample.name != known.archive_sample


def _is_compared(facts: TurnFacts, candidate: int) -> bool:
    """Whether any label is evidence about a candidate: without one it need not be kept for more of them."""
    versions = [facts.compared(each) for each in (candidate, facts.state.production) if each is not None]
    return bool(fresh_for(facts.fresh_labels, versions))


def _refuse(facts: TurnFacts, record: TurnRecord, nights: list[Night]) -> None:
    """Note that labels were refused, once for the same labels; tell it in each turn."""
    decision = decide_nights(nights)
    if facts.state.refused == facts.labels.digest:
        record.tell(None, decision)
        return
    found = [each.found for each in nights]
    move = Refused(
        labels=facts.labels.digest,
        days=_days_of(nights),
        images=sum(each.labels for each in found),
        agreeing=sum(each.agreeing for each in found),
        expected=sum(each.expected for each in found),
        classes=classes_of(nights),
        newest_label=facts.newest_label,
    )
    record.append(move, decision)


def _days_of(nights: list[Night]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.day for each in nights))


def _train(facts: TurnFacts, record: TurnRecord, lease: Lease) -> None:
    """Train a version and its twin, as far as they are not there, and register it."""
    work, store = facts.work, facts.work.store
    was_there = work.training.find(store) is not None
    classifier = embed_and_train(work, facts.reporter).classifier
    keep_examples(store, classifier, work.training)  # A later job may ask for label sets,
    keep_known_examples(store, classifier, work.training.support)  # or test unknown images.
    held = replace(work.training, support=for_twin(work.training.support))
    twin_was_there = held.find(store) is not None
    twin = held.run(store)
    record.trained += (not was_there) + (not twin_was_there)
    number, digest = len(facts.state.versions) + 1, facts.labels.put(store, facts.journal.folder)
    version = version_of(work, classifier, twin, number=number, labels=digest, parent=facts.state.production)
    lease.check()  # Without it, what was found might be pruned at this moment.
    move = Registered(version=version, newest_label=facts.newest_label)
    record.append(move, Decision("train", _changes(facts, version)))


def _changes(facts: TurnFacts, version: Version) -> str:
    """What changed since the version in production, in a sentence."""
    if (production := facts.production) is None:
        return f"the first version, of {len(facts.labels.of_content):,} images"
    diff = facts.changes_since(production)
    counts = f"{len(diff.added):,} labels added, {len(diff.removed):,} removed, {len(diff.relabelled):,} changed"
    checked = agreement_of(facts.checked)
    classes = [("new", diff.new_classes), ("removed", diff.removed_classes)]
    told = [f"{word}: {', '.join(names[:SHOWN])}" for word, names in classes if names]
    told += [f"{old} is now {new}" for old, new in diff.renamed]
    told += _resemblances(facts, production, diff.new_classes)
    has_other_backbone = dict(version.backbone) != dict(production.backbone)
    told += ["another backbone"] * has_other_backbone
    told += ["other settings"] * (version.settings != production.settings and not has_other_backbone)
    told += ["another sample of the archive"] * (version.archive_sample != production.archive_sample)
    return "; ".join([counts, *told, *([checked] if checked else [])])


def _resemblances(facts: TurnFacts, production: Version, new_classes: Sequence[str]) -> list[str]:
    """Which classes production sees most images of new ones as, so that a second name of a class is seen."""
    found = [(name, mostly_seen_as(name, facts.labels, facts.compared(production.number))) for name in new_classes]
    return [
        f"production sees {seen[1]:,} of the {seen[2]:,} images of {name} as {seen[0]}"
        for name, seen in found[:SHOWN]
        if seen is not None
    ]
