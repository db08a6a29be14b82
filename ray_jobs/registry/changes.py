"""Moves that people make by hand: promote, roll back, reject. Run again, each finds itself made and moves nothing."""

from __future__ import annotations

from ray_jobs.errors import JobError
from ray_jobs.output.layout import CARD
from ray_jobs.registry.journal import Journal
from ray_jobs.registry.moves import Confirmed, Move, Promoted, Rejected, RolledBack
from ray_jobs.registry.registry_state import RegistryState
from ray_jobs.results.registry_results import RegistryMove


def promote(journal: Journal, number: int, *, by: str, why: str) -> RegistryMove:
    """Make a version production without asking the gate, or end the watch over it; the journal says so.

    Args:
        journal: of the registry.
        number: of the version; if it is in production already, and not watched, nothing is moved.
        by: who does it.
        why: in a sentence.

    Raises:
        JobError: there is no such version, or its classifier was removed or is missing.
        RegistryMovedError: another process moved the registry meanwhile.
        StorageError: it could not be written.
    """
    state = journal.state()
    _check_stored(journal, state, number)
    if number in state.watched and number == state.production:
        did = f"the watch over version {number} ended; it stays in production"
        return _moved(journal, state, Confirmed(version=number, is_forced=True), did, by=by, why=why)
    if number == state.production:
        return _unmoved(journal, state, f"version {number} is in production already")
    move = Promoted(version=number, former=state.production, is_forced=True)
    return _moved(journal, state, move, f"promoted version {number}", by=by, why=why)


def roll_back(journal: Journal, number: int | None = None, *, by: str, why: str) -> RegistryMove:
    """Make an earlier version production again.

    Args:
        journal: of the registry.
        number: of the version; if it is in production already, nothing is moved. None takes the one that was in
            production before the present one. If production was gone back to, by a person or by evidence of harm,
            nothing is moved then: a command that is typed again, as nobody knows whether it was carried out, would go
            one version further.
        by: who does it.
        why: in a sentence.

    Raises:
        JobError: there is none to go back to, or as `promote`.
        RegistryMovedError, StorageError: as `promote`.
    """
    state = journal.state()
    if number is None and state.fell_back:
        moves = (entry.move for entry in reversed(journal.entries()))
        last = next(move for move in moves if isinstance(move, Promoted | RolledBack))
        if isinstance(last, RolledBack):
            return _unmoved(journal, state, f"version {state.production} was gone back to already{_further(state)}")
        number = last.former  # A person promoted an earlier version, and takes that back.
    number = state.former if number is None else number
    if number is None or state.production is None:
        raise JobError(
            [f"{journal.store.url(journal.folder)} has no earlier production to go back to{_instead(state)}"]
        )
    _check_stored(journal, state, number)
    if number not in state.productions:
        raise JobError([f"version {number} was never in production; to make it so: fewshot registry promote"])
    if number == state.production:
        return _unmoved(journal, state, f"version {number} is in production already")
    move = RolledBack(version=number, former=state.production)
    return _moved(
        journal, state, move, f"version {state.production} was taken back, version {number} is restored", by=by, why=why
    )


def _further(state: RegistryState) -> str:
    """How to go back beyond what was gone back to; empty where there is nothing."""
    return "" if state.former is None else f" (one further: --to {state.former})"


def reject(journal: Journal, number: int, *, by: str, why: str) -> RegistryMove:
    """Drop the candidate, without waiting for evidence.

    Args:
        journal: of the registry.
        number: of the candidate; if it was rejected already, nothing is moved.
        by: who does it.
        why: in a sentence.

    Raises:
        JobError: the version is not the candidate.
        RegistryMovedError, StorageError: as `promote`.
    """
    state = journal.state()
    state.version(number)
    if number in state.rejected:
        return _unmoved(journal, state, f"version {number} was rejected already")
    if number == state.production:
        raise JobError([f"version {number} is in production; to take it back: fewshot registry rollback"])
    if number != state.candidate:
        found = "there is none" if state.candidate is None else f"that is version {state.candidate}"
        raise JobError([f"version {number} is not the candidate ({found}), so there is nothing to reject"])
    move = Rejected(version=number, is_forced=True)
    return _moved(journal, state, move, f"rejected version {number}", by=by, why=why)


def _instead(state: RegistryState) -> str:
    """Return what a person can do who has nothing to go back to."""
    others = [each for each in state.versions if each not in {state.production, *state.pruned}]
    if not others:
        return ": there is no other version yet"
    one, listed = others[-1], ", ".join(map(str, others))
    return f"; to put another version ({listed}) into production: fewshot registry promote OUTPUT {one} --why WHY"


def _check_stored(journal: Journal, state: RegistryState, number: int) -> None:
    """Raise JobError unless the classifier of a version is whole as far as its card says."""
    version = state.version(number)
    if number in state.pruned:
        raise JobError([f"the classifier of version {number} was removed; train it again"])
    if not journal.store.exists(f"{version.folder}/{CARD}"):
        url = journal.store.url(version.folder)
        raise JobError([f"the classifier of version {number} is missing: expected {url}; nothing was moved"])


def _moved(journal: Journal, state: RegistryState, move: Move, did: str, *, by: str, why: str) -> RegistryMove:
    after = journal.append(move, by=by, why=why, after=state)
    return RegistryMove(job=journal.job, did=did, moved=True, production=after.production, former=state.production)


def _unmoved(journal: Journal, state: RegistryState, what: str) -> RegistryMove:
    did = f"{what}; nothing was moved"
    return RegistryMove(job=journal.job, did=did, moved=False, production=state.production, former=state.production)
