"""Versions and journals for tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cluster import Store
from ray_jobs.registry.journal import Journal
from ray_jobs.registry.learned_labels import LearnedLabels
from ray_jobs.registry.moves import Evidence, Promoted, Registered, Rejected, Version
from ray_jobs.registry.registry_state import RegistryState

EVIDENCE = Evidence(images=100, better=9, worse=2, log_evidence=1.25, log_harm=-2.5, log_needed=2.75)


def version(number: int, *, parent: int | None = None, labels: str = "0" * 16) -> Version:
    """Return a version whose classifier is named after its number."""
    return Version(
        number=number,
        classifier=f"gda/{number:016x}",
        folder=f"classifiers/gda/{number:016x}",
        twin=f"classifiers/gda/{number + 256:016x}",
        method="gda",
        classes=("amber", "blue"),
        backbone={"model": "embedded"},
        labels=labels,
        settings="5" * 16,
        examples=8 + number,
        held_out=8,
        accuracy=0.5,
        archive_sample=None,
        parent=parent,
    )


class Clock:
    """A clock that advances by a second whenever it is read."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 30, 3, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time


def open_local(folder: Path) -> Journal:
    """Return the journal of the job "groceries" in a folder."""
    return Journal(Store(str(folder)), "groceries", clock=Clock())


def with_versions(journal: Journal, count: int) -> RegistryState:
    """Register so many versions, and promote the first."""
    state = journal.state()
    for number in range(1, count + 1):
        state = journal.append(Registered(version=version(number)), by="ann", why="a night", after=state)
        if number == 1:
            state = journal.append(Promoted(version=1, former=None), by="ann", why="the first", after=state)
    return state


def store_classifiers(store: Store, each: Version) -> None:
    """Write what stands for the classifier of a version, and for its twin."""
    for folder in (each.folder, each.twin):
        for name in ("classifier.safetensors", "card.json"):
            store.put(f"{folder}/{name}", b"{}")


def with_classifiers(journal: Journal) -> Journal:
    """Register five versions with classifiers; 1, 2 and 4 were in production, 3 was rejected, 5 is the candidate."""
    state = journal.state()
    for number in range(1, 6):
        labels = LearnedLabels(("amber", "blue"), {f"{n}": ("amber",) for n in range(number)})
        digest = labels.put(journal.store, journal.folder)
        each = version(number, labels=digest, parent=state.production)
        store_classifiers(journal.store, each)
        state = journal.append(Registered(version=each), by="cron", why="a night", after=state)
        if number in (1, 2, 4):
            move = Promoted(version=number, former=state.production)
            state = journal.append(move, by="cron", why="no harm", after=state)
        if number == 3:
            state = journal.append(Rejected(version=3, evidence=EVIDENCE), by="cron", why="worse", after=state)
    return journal
