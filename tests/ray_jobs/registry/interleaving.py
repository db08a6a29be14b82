"""Writers that move one registry at once, one storage request after another, in an order that a seed decides.

Each writer is a thread that stops before each of its requests. Whenever all have stopped, one is drawn to go on, so
every interleaving of their requests can happen, and the same seed makes the same one again. Waits (for a lease, for a
claim) take no time, but as long as others make some requests: they are several stops.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cluster import Retry, Storage, Store, acquire_lease
from cluster.errors import LeaseHeldError, LeaseLostError
from cluster.storage.objects import Objects, open_objects
from cluster.storage.settings import DEFAULT_STORAGE
from ray_jobs.errors import JobError
from ray_jobs.registry.changes import promote, reject, roll_back
from ray_jobs.registry.journal import Journal, RegistryMovedError
from ray_jobs.registry.moves import Move, Registered, Version
from ray_jobs.registry.pruning import prune
from ray_jobs.registry.registry_state import RegistryState, state_of
from tests.ray_jobs.registry.registered import store_classifiers, version

WRITERS = ("ann", "bob", "cron")
ATTEMPTS = 5
"""Moves that each writer attempts."""
STOPS_OF_A_WAIT = 8
"""For so many draws a writer lets others go on. A wait that were over at once would have claims withdrawn and put again
many times, and writers meet half as often; every order of requests is still possible."""
_writer = threading.local()


class Order:
    """Decides which of the writers goes on.

    Args:
        seed: of the draws.
        writers: their names.
    """

    def __init__(self, seed: int, writers: Sequence[str]) -> None:
        self._rng = random.Random(seed)
        self._changed = threading.Condition()
        self._stopped: set[str] = set()
        self._left = set(writers)
        self._next: str | None = None

    def run(self, name: str, work: Callable[[], None]) -> None:
        """Do the work of a writer in this thread, stopping before each request."""
        _writer.order, _writer.name = self, name
        self.stop(name)
        try:
            work()
        finally:
            with self._changed:
                self._left.discard(name)
                self._draw()

    def stop(self, name: str) -> None:
        """Wait until the writer is drawn."""
        with self._changed:
            self._stopped.add(name)
            self._draw()
            while self._next != name:
                self._changed.wait()
            self._stopped.discard(name)
            self._next = None

    def _draw(self) -> None:
        if self._next is None and self._stopped and self._stopped == self._left:
            self._next = self._rng.choice(sorted(self._stopped))
            self._changed.notify_all()


def _stop(*_: object) -> None:
    """Stop before a request, if this thread is a writer of an interleaving."""
    if (order := getattr(_writer, "order", None)) is not None:
        order.stop(_writer.name)


class OrderedObjects:
    """Objects whose requests are made when their writer is drawn."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def __getattr__(self, name: str) -> Any:
        """Return an operation that stops first."""
        operation = getattr(self._objects, name)

        def ordered(*arguments: object, **options: object) -> object:
            _stop()
            return operation(*arguments, **options)

        return ordered


def open_ordered(root: str, storage: Storage, retry: Retry) -> Objects:
    """Open objects whose requests are ordered; takes the place of `open_objects` in `Store`."""
    return OrderedObjects(open_objects(root, storage, retry))


def _wait(*_: object) -> None:
    for _each in range(STOPS_OF_A_WAIT):
        _stop()


NO_TIME = Retry(clock=lambda: 0.0, sleep=_wait)
"""Nothing takes time, so no lease and no claim is ever too old: their owners live."""


@dataclass
class Interleaving:
    """What writers did to a registry.

    Attributes:
        url: of the output.
        storage: how it is reached.
        retry: of the requests.
        term_s: of leases, in seconds.
        made: of each move that was made, the entry that its writer had read last, and the entry that it wrote.
        refused: number of moves that came too late.
    """

    url: str
    storage: Storage = DEFAULT_STORAGE
    retry: Retry = NO_TIME
    term_s: float = 30.0
    made: list[tuple[int, int]] = field(default_factory=list)
    refused: int = 0

    def journal(self) -> Journal:
        """Open the registry anew, as another process would."""
        return _Recorded(self, Store(self.url, storage=self.storage, retry=self.retry), "groceries")

    def run(self, seed: int, *, is_ordered: bool = True) -> None:
        """Let all writers make random moves.

        Args:
            seed: of moves and order.
            is_ordered: whether the seed also decides the order of requests, and not chance.
        """
        train(self.journal(), 0, random.Random(seed), term_s=self.term_s)
        order = Order(seed, WRITERS)

        def work(name: str) -> None:
            rng, journal = random.Random(f"{seed} {name}"), self.journal()
            for _ in range(ATTEMPTS):
                try:
                    move_once(journal, rng, by=name, term_s=self.term_s)
                except (RegistryMovedError, LeaseHeldError, LeaseLostError):
                    self.refused += 1

        errors: list[BaseException] = []

        def run(name: str) -> None:
            try:
                if is_ordered:
                    order.run(name, lambda: work(name))
                else:
                    work(name)
            except BaseException as error:  # noqa: BLE001 -- raised below, in the thread of the test
                errors.append(error)

        threads = [threading.Thread(target=run, args=(name,)) for name in WRITERS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def check(self) -> int:
        """Check that there was one production at any time, that nothing needed is gone; return the number of entries.

        Reading the journal checks the chain of digests.
        """
        journal = self.journal()
        entries = journal.entries()
        assert sorted(self.made) == [(number, number + 1) for number in range(len(entries))]
        state = RegistryState()
        for entry in entries:
            former = getattr(entry.move, "former", state.production)
            assert former == state.production
            state = state.after(entry.move)
        assert state == state_of(entries)
        assert state.needed.keys().isdisjoint(state.pruned)
        stored = set(journal.store.list("classifiers"))
        for number, each in state.versions.items():
            if number not in state.pruned:
                assert {f"{each.folder}/card.json", f"{each.twin}/card.json"} <= stored, f"version {number}"
        return len(entries)


class _Recorded(Journal):
    """A journal that notes what its writer had read when it made a move."""

    def __init__(self, interleaving: Interleaving, store: Store, job: str) -> None:
        super().__init__(store, job)
        self._interleaving = interleaving

    def append(self, move: Move, *, by: str, why: str, after: RegistryState) -> RegistryState:
        moved = super().append(move, by=by, why=why, after=after)
        self._interleaving.made.append((after.sequence, moved.sequence))
        return moved


def move_once(journal: Journal, rng: random.Random, *, by: str, term_s: float) -> None:
    """Make a random move; one that cannot be made is none."""
    number = rng.randint(1, 3)
    match rng.choice(("train", "train", "promote", "roll back", "roll back to", "reject", "prune", "prune")):
        case "train":
            train(journal, rng.randint(0, 2), rng, by=by, term_s=term_s)
        case "prune":
            prune(journal, keep=rng.randint(1, 2), by=by, why="chance", term_s=term_s)
        case move:
            _change(journal, move, number, by=by)


def _change(journal: Journal, move: str, number: int, *, by: str) -> None:
    try:
        match move:
            case "promote":
                promote(journal, number, by=by, why="chance")
            case "reject":
                reject(journal, number, by=by, why="chance")
            case "roll back":
                roll_back(journal, by=by, why="chance")
            case _:
                roll_back(journal, number, by=by, why="chance")
    except RegistryMovedError:
        raise
    except JobError:  # There is no such version, or nothing to go back to.
        return


def train(journal: Journal, earlier: int, rng: random.Random, *, by: str = "cron", term_s: float) -> None:
    """Register a version as a turn does: under the lease, with a classifier that is trained unless it is there.

    Args:
        journal: of the registry.
        earlier: number of a version with the same labels; 0, or that of none, for new ones.
        rng: decides whether the version is promoted at once.
        by: who does it.
        term_s: of the lease.
    """
    with acquire_lease(journal.store, f"{journal.folder}/lease", term_s=term_s) as lease:
        state = journal.state()
        new = version(len(state.versions) + 1, parent=state.production)
        if earlier in state.versions:
            new = _with_classifier_of(state.versions[earlier], new)
        if not journal.store.exists(f"{new.folder}/card.json") or not journal.store.exists(f"{new.twin}/card.json"):
            store_classifiers(journal.store, new)
        lease.check()
        state = journal.append(Registered(version=new), by=by, why="chance", after=state)
    if rng.random() < 0.5 or state.production is None:
        promote(journal, new.number, by=by, why="chance")


def _with_classifier_of(earlier: Version, new: Version) -> Version:
    return replace(new, classifier=earlier.classifier, folder=earlier.folder, twin=earlier.twin)
