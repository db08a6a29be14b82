"""Versions of a registry as people look at them: a list, one of them, and the difference of two."""

from __future__ import annotations

from ray_jobs.registry.journal import Journal
from ray_jobs.registry.learned_labels import diff_labels, read_learned_labels
from ray_jobs.registry.move_sentences import evidence_sentence, move_sentence
from ray_jobs.registry.moves import Accepted, Compared, JournalEntry, Pruned, Refused, Registered, Version, is_by_hand
from ray_jobs.registry.registry_state import RegistryState, state_of
from ray_jobs.results.json_format import Json, to_plain
from ray_jobs.results.registry_results import (
    JournalLine,
    ListedVersion,
    RegistryList,
    VersionDetails,
    VersionDiff,
    VersionState,
)

SETTINGS = ("method", "classifier", "archive_sample", "examples", "held_out", "accuracy")
"""Of a version, what `diff` compares beside labels and backbone."""


def list_versions(journal: Journal) -> RegistryList:
    """Return all versions.

    Raises:
        JobError, StorageError: as `Journal.entries`.
    """
    entries = journal.entries()
    state = state_of(entries)
    forced = _forced(entries)
    listed = tuple(
        _listed(journal, state, entry, entry.move.version, is_forced=forced.get(entry.move.version.number, False))
        for entry in entries
        if isinstance(entry.move, Registered)
    )
    return RegistryList(
        job=journal.job,
        registry=journal.store.url(journal.folder),
        production=state.production,
        watched=state.shadow is not None,
        versions=listed,
    )


def describe_version(journal: Journal, number: int) -> VersionDetails:
    """Return a version, the number of its examples of each class, and the entries that concern it.

    Raises:
        JobError: there is no such version, or as `Journal.entries`.
        StorageError: storage does not respond.
    """
    entries = journal.entries()
    state = state_of(entries)
    version = state.version(number)
    labels = read_learned_labels(journal.store, journal.folder, version.labels)
    concerned = [entry for entry in entries if number in _numbers(entry)]
    registered = next(entry for entry in concerned if isinstance(entry.move, Registered))
    return VersionDetails(
        job=journal.job,
        version=_listed(journal, state, registered, version, is_forced=_forced(entries).get(number, False)),
        images_of_class=labels.counts,
        backbone=_plain(version.backbone),
        moves=tuple(map(_line, concerned)),
    )


def diff_versions(journal: Journal, before: int, after: int) -> VersionDiff:
    """Return how two versions differ: labels by the contents of images, and settings.

    Raises: as `describe_version`.
    """
    state = journal.state()
    one, other = state.version(before), state.version(after)
    diff = diff_labels(*(read_learned_labels(journal.store, journal.folder, each.labels) for each in (one, other)))
    values = [
        _plain(each.backbone) | {name: to_plain(getattr(each, name)) for name in SETTINGS} for each in (one, other)
    ]
    names = sorted(name for name in values[0].keys() | values[1].keys() if values[0].get(name) != values[1].get(name))
    return VersionDiff(
        before=before,
        after=after,
        added=len(diff.added),
        removed=len(diff.removed),
        relabelled=len(diff.relabelled),
        new_classes=diff.new_classes,
        removed_classes=diff.removed_classes,
        renamed=diff.renamed,
        changed_classes=diff.changed_classes,
        settings={name: (values[0].get(name), values[1].get(name)) for name in names},
    )


def state_of_version(state: RegistryState, number: int) -> VersionState:
    """Return what a version is at the moment."""
    states: tuple[tuple[VersionState, bool], ...] = (
        ("production", number == state.production),
        ("removed", number in state.pruned),
        ("shadow", number == state.shadow),
        ("candidate", number == state.candidate),
        ("rejected", number in state.rejected),
        ("former", number in state.productions),
    )
    return next((name for name, holds in states if holds), "dropped")


def _listed(
    journal: Journal, state: RegistryState, entry: JournalEntry, version: Version, *, is_forced: bool
) -> ListedVersion:
    return ListedVersion(
        version=version.number,
        state=state_of_version(state, version.number),
        is_forced=is_forced,
        method=version.method,
        classes=len(version.classes),
        examples=version.examples,
        accuracy=version.accuracy,
        parent=version.parent,
        classifier=journal.store.url(version.folder),
        time=entry.time,
        by=entry.by,
        why=entry.why,
    )


def _numbers(entry: JournalEntry) -> set[int | None]:
    """The versions that an entry names."""
    match entry.move:
        case Registered(version=version):
            return {version.number}
        case Compared(version=number, against=against):
            return {number, against}
        case Pruned(versions=numbers):
            return set(numbers)
        case Refused() | Accepted():
            return set()
        case move:
            return {move.version, getattr(move, "former", None)}


def _forced(entries: list[JournalEntry]) -> dict[int | None, bool]:
    """By number of a version, whether a person made the last move that changed what it is."""
    moves = (entry for entry in entries if not isinstance(entry.move, Compared))
    return {number: is_by_hand(entry.move) for entry in moves for number in _numbers(entry)}


def _line(entry: JournalEntry) -> JournalLine:
    evidence, move = getattr(entry.move, "evidence", None), entry.move.to_json()
    return JournalLine(
        sequence=entry.sequence,
        time=entry.time,
        by=entry.by,
        did=move_sentence(entry.move),
        why=entry.why,
        evidence=None if evidence is None else evidence_sentence(evidence),
        is_forced=is_by_hand(entry.move),
        move={"kind": entry.move.kind} if isinstance(entry.move, Registered) else move,
    )


def _plain(backbone: object) -> dict[str, Json]:
    values = to_plain(backbone)
    return values if isinstance(values, dict) else {}
