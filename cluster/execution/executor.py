"""The interface of executors, which spread units over workers, and the parts that all of them share."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from pathlib import PurePosixPath
from types import TracebackType
from typing import Protocol, Self

from cluster.execution.events import Event, UnitSkipped
from cluster.execution.step import Step, Unit, Workers
from cluster.storage.store import Ledger


class Executor(Protocol):
    """Maps a step over units. A context manager: workers live at most until its exit.

    Equal units give equal bytes with every executor; only the order of events differs.
    """

    def __enter__(self) -> Self:
        """Prepare for `run`."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all workers."""
        ...

    def run(self, step: Step, units: Iterable[Unit], ledger: Ledger, workers: Workers) -> Generator[Event, None, None]:
        """Run every unit to its end: skipped, done and committed, or failed.

        Units are pulled only when workers have room for them, so `units` may be endless. Workers commit their results
        themselves: no part passes through this process. They start with the first unit that is not done, and stay alive
        for the next run of an equal step. Closing the generator stops the work; committed parts stay.

        Args:
            step: the work.
            units: with unique paths.
            ledger: where parts are committed; units whose path exists there are skipped.
            workers: the number of workers, and the resources of each.

        Yields:
            Events, as they happen.

        Raises:
            WorkerStartError: `step.setup` failed, or no worker could be placed, at the start or after all were lost.
            UnitLostError: workers keep dying, independently of the unit.
            StorageError: the done parts could not be listed, or parts of workers do not appear in this store.
        """
        ...


def unfinished(units: Iterable[Unit], ledger: Ledger) -> Iterator[Unit | UnitSkipped]:
    """Separate the units that are done from the others, lazily.

    Each folder is listed once, with its first unit: one request for a thousand parts instead of a thousand requests.

    Yields:
        The units that are not in the ledger, and UnitSkipped for those that are, in the order of `units`.
    """
    done: dict[str, frozenset[str]] = {}
    for unit in units:
        folder = PurePosixPath(unit.path).parent.as_posix()
        if folder not in done:
            done[folder] = ledger.done("" if folder == "." else folder)
        yield UnitSkipped(unit.path, unit.weight) if unit.path in done[folder] else unit


def weight_left(units: Iterable[Unit], ledger: Ledger) -> int:
    """Return the total weight of the units that are not in the ledger; see `unfinished`."""
    return sum(unit.weight for unit in unfinished(units, ledger) if isinstance(unit, Unit))
