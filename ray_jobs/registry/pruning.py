"""Removal of stored classifiers that nothing needs any more: what stays and why, and the rest, twins included.

A classifier is named by its method and its fingerprint, wherever it lies: an output that was moved has runs whose plans
name an earlier place, and what they need must stay nevertheless.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from cluster.storage.lease import TERM_S, acquire_lease
from ray_jobs.errors import JobError
from ray_jobs.output.layout import CARD, LEASE, PLAN, REGISTRY, RUNS
from ray_jobs.registry.inspection import state_of_version
from ray_jobs.registry.journal import Journal, jobs_with_registry
from ray_jobs.registry.moves import Pruned, Version
from ray_jobs.registry.registry_state import RegistryState
from ray_jobs.results.json_format import FormatError
from ray_jobs.results.registry_results import PruneResult, VersionToPrune
from ray_jobs.results.run_plan import RunPlan


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """What a prune would do.

    Attributes:
        stays: versions whose classifiers stay, and why.
        goes: versions whose classifiers are to be removed; those that a prune before left behind included.
        folders: by path in the output, the bytes in each folder that is to be removed.
    """

    stays: Mapping[int, str]
    goes: tuple[int, ...]
    folders: Mapping[str, int]


def prune(
    journal: Journal,
    *,
    keep: int,
    by: str,
    why: str,
    dry_run: bool = False,
    term_s: float = TERM_S,
    on_wait: Callable[[str], None] = lambda _: None,
) -> PruneResult:
    """Remove classifiers of versions that nothing needs; their entries and labels stay.

    The leases of all registries of the output are held meanwhile, so that no retraining finds a classifier that is
    about to go. The journal is written first: a prune that is ended halfway leaves folders that the next one removes.

    Args:
        journal: of the registry.
        keep: number of versions that were in production to keep, the present one included, >= 1.
        by: who does it.
        why: in a sentence.
        dry_run: change nothing, and return what would be removed.
        term_s: of the leases, in seconds.
        on_wait: called with a description of a process that retrains or prunes, before it is waited for.

    Raises:
        JobError: a plan of a run or another registry of the output cannot be read, so what it needs is unknown.
        LeaseHeldError, LeaseLostError: another process retrains or prunes.
        RegistryMovedError: another process moved the registry meanwhile; nothing was removed.
        StorageError: something could not be written or removed; run again.
    """
    if dry_run:
        state = journal.state()
        return _result(journal, state, plan_prune(journal, state, keep=keep), dry_run=True)
    with ExitStack() as stack:
        leases = [
            stack.enter_context(
                acquire_lease(journal.store, f"{REGISTRY}/{job}/{LEASE}", term_s=term_s, on_wait=on_wait)
            )
            for job in jobs_with_registry(journal.store)
        ]
        before = journal.state()
        plan = plan_prune(journal, before, keep=keep)
        numbers = tuple(number for number in plan.goes if number not in before.pruned)
        if numbers:
            journal.append(Pruned(versions=numbers), by=by, why=why, after=before)
        for folder in plan.folders:
            for lease in leases:
                lease.check()
            _remove(journal, folder)
        return _result(journal, before, plan)


def plan_prune(journal: Journal, state: RegistryState, *, keep: int) -> PrunePlan:
    """Return what stays and what goes. See `prune`."""
    stays = dict.fromkeys(_newest_productions(state, keep), f"one of the {keep} newest that were in production")
    stays |= state.needed
    needed = _needed_elsewhere(journal)
    unsettled = dict(stays)
    while unsettled:  # Versions may share a classifier: what one of them needs keeps the others whole.
        needed |= {
            name: f"version {number} shares it" for number in unsettled for name in _names(state.versions[number])
        }
        left = [each for each in state.versions.values() if each.number not in stays]
        unsettled = {each.number: needed[name] for each in left for name in _names(each) if name in needed}
        unsettled = {number: why for number, why in unsettled.items() if number not in state.pruned}
        stays |= unsettled
    rest = [each for each in state.versions.values() if each.number not in stays]
    folders = dict.fromkeys(
        folder for each in rest for folder in (each.folder, each.twin) if _name(folder) not in needed
    )
    sizes = {folder: journal.store.sizes(folder) for folder in folders}
    present = {folder: sum(found.values()) for folder, found in sizes.items() if found}
    goes = tuple(
        each.number
        for each in rest
        if each.number not in state.pruned or not present.keys().isdisjoint((each.folder, each.twin))
    )
    return PrunePlan(stays, goes, present)


def _newest_productions(state: RegistryState, keep: int) -> list[int]:
    newest = dict.fromkeys(number for number in reversed(state.productions) if number not in state.pruned)
    return list(newest)[:keep]


def _names(version: Version) -> tuple[str, str]:
    return _name(version.folder), _name(version.twin)


def _name(place: str) -> str:
    """Method and fingerprint of the classifier in a folder, given by its path or URL."""
    folder, fingerprint = posixpath.split(place)
    return f"{posixpath.basename(folder)}/{fingerprint}"


def _needed_elsewhere(journal: Journal) -> dict[str, str]:
    """By name of a classifier, what needs it beside this registry: runs of the output, and other registries there."""
    found = {}
    for folder in journal.store.folders(RUNS):
        path = f"{folder}/{PLAN}"
        try:
            plan = RunPlan.from_json(journal.store.get(path), where=journal.store.url(path))
        except FileNotFoundError:
            continue
        except FormatError as error:
            raise JobError([f"{' '.join(error.problems)} Without it, what this run needs is unknown."]) from error
        if plan.classifier_name is not None:
            found[plan.classifier_name] = f"needed by {folder}"
    for job in jobs_with_registry(journal.store):
        if job != journal.job:
            versions = (state := Journal(journal.store, job).state()).versions.values()
            left = [each for each in versions if each.number not in state.pruned]
            found |= {
                name: f"needed by version {each.number} of the job {job}" for each in left for name in _names(each)
            }
    return found


def _remove(journal: Journal, folder: str) -> None:
    """Remove the objects of a folder, the card first, which makes it one that is not there."""
    for path in sorted(journal.store.list(folder), key=lambda path: not path.endswith(f"/{CARD}")):
        journal.store.delete(path)


def _result(journal: Journal, state: RegistryState, plan: PrunePlan, *, dry_run: bool = False) -> PruneResult:
    versions = {**dict.fromkeys(plan.goes, "nothing needs it"), **plan.stays}
    return PruneResult(
        job=journal.job,
        dry_run=dry_run,
        production=state.production,
        versions=tuple(
            VersionToPrune(
                version=number, state=state_of_version(state, number), stays=number in plan.stays, why=versions[number]
            )
            for number in sorted(versions)
        ),
        folders=tuple(sorted(plan.folders)),
        bytes=sum(plan.folders.values()),
    )
