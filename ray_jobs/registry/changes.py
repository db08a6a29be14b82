"""Moves that people make by hand: promote, roll back, and remove what no version needs any more."""

from __future__ import annotations

from ray_jobs.errors import JobError
from ray_jobs.output.layout import PLAN, RUNS
from ray_jobs.registry.journal import Journal
from ray_jobs.registry.moves import Promoted, Pruned, RolledBack
from ray_jobs.registry.registry_state import RegistryState
from ray_jobs.results.json_format import FormatError
from ray_jobs.results.registry_results import RegistryMove
from ray_jobs.results.run_plan import RunPlan


def promote(journal: Journal, number: int, *, by: str, why: str) -> RegistryMove:
    """Make a version production without asking the gate; the journal says so.

    Args:
        journal: of the registry.
        number: of the version.
        by: who does it.
        why: in a sentence.

    Raises:
        JobError: there is no such version, its classifier was removed or is missing, or it is in production already.
        RegistryMovedError: another process moved the registry meanwhile.
        StorageError: it could not be written.
    """
    state = journal.state()
    _check_stored(journal, state, number)
    move = Promoted(version=number, former=state.production, is_forced=True)
    after = journal.append(move, by=by, why=why, after=state)
    return _moved(journal, after, f"promoted version {number}", state.production)


def roll_back(journal: Journal, number: int | None = None, *, by: str, why: str) -> RegistryMove:
    """Make an earlier version production again.

    Args:
        journal: of the registry.
        number: of the version; None takes the one that was in production before the present one.
        by: who does it.
        why: in a sentence.

    Raises:
        JobError: there is none to go back to, or as `promote`.
        RegistryMovedError, StorageError: as `promote`.
    """
    state = journal.state()
    number = state.former if number is None else number
    if number is None or state.production is None:
        raise JobError([f"the registry {journal.store.url(journal.folder)} has no earlier production to go back to"])
    if number not in state.productions:
        raise JobError([f"version {number} was never in production; to make it so: fewshot registry promote"])
    _check_stored(journal, state, number)
    after = journal.append(RolledBack(version=number, former=state.production), by=by, why=why, after=state)
    return _moved(journal, after, f"rolled back to version {number}", state.production)


def prune(journal: Journal, *, keep: int, by: str, why: str) -> RegistryMove:
    """Remove classifiers of versions that nothing needs; their entries and labels stay.

    Production, the candidate, what a rollback restores, the newest versions that were in production, and classifiers
    of runs that are in the output stay. The journal is written first: a prune that is ended halfway leaves classifiers
    that the next one removes.

    Args:
        journal: of the registry.
        keep: number of versions that were in production to keep, the present one included, >= 1.
        by: who does it.
        why: in a sentence.

    Raises:
        JobError: a plan of a run cannot be read, so what it needs is unknown.
        RegistryMovedError, StorageError: as `promote`.
    """
    state = journal.state()
    kept = state.needed | _newest_productions(state, keep)
    folders = {state.versions[number].folder for number in kept} | _folders_of_runs(journal)
    unneeded = [each for each in state.versions.values() if each.number not in kept and each.folder not in folders]
    numbers = tuple(each.number for each in unneeded if each.number not in state.pruned)
    after = state
    if numbers:
        after = journal.append(Pruned(versions=numbers), by=by, why=why, after=state)
    removed = [folder for folder in dict.fromkeys(each.folder for each in unneeded) if _remove(journal, folder)]
    count = f"{len(removed)} classifier{'s' if len(removed) != 1 else ''}"
    return _moved(journal, after, f"removed {count}", state.production, tuple(removed))


def _newest_productions(state: RegistryState, keep: int) -> frozenset[int]:
    newest = dict.fromkeys(number for number in reversed(state.productions) if number not in state.pruned)
    return frozenset(list(newest)[:keep])


def _folders_of_runs(journal: Journal) -> frozenset[str]:
    """Folders of classifiers that runs of the output were made with."""
    found = set()
    for folder in journal.store.folders(RUNS):
        path = f"{folder}/{PLAN}"
        try:
            plan = RunPlan.from_json(journal.store.get(path), where=journal.store.url(path))
        except FileNotFoundError:
            continue
        except FormatError as error:
            raise JobError([f"{' '.join(error.problems)} Without it, what this run needs is unknown."]) from error
        if plan.classifier is not None:  # A path in the output, or the URL of a stored classifier.
            found.add(plan.classifier.removeprefix(f"{journal.store.root}/"))
    return frozenset(found)


def _remove(journal: Journal, folder: str) -> bool:
    """Remove the objects of a folder, the card first, which makes it one that is not there."""
    paths = sorted(journal.store.list(folder), key=lambda path: not path.endswith("/card.json"))
    for path in paths:
        journal.store.delete(path)
    return bool(paths)


def _check_stored(journal: Journal, state: RegistryState, number: int) -> None:
    """Raise JobError unless the classifier of a version is whole as far as its card says."""
    version = state.version(number)
    if number not in state.pruned and not journal.store.exists(f"{version.folder}/card.json"):
        url = journal.store.url(version.folder)
        raise JobError([f"the classifier of version {number} is missing: expected {url}; nothing was moved"])


def _moved(
    journal: Journal, after: RegistryState, did: str, former: int | None, removed: tuple[str, ...] = ()
) -> RegistryMove:
    return RegistryMove(job=journal.job, did=did, production=after.production, former=former, removed=removed)
