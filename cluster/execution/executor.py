"""What spreads units over workers, and what every way of doing it has in common."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from pathlib import PurePosixPath
from types import TracebackType
from typing import Protocol, Self

from cluster.execution.events import Event, UnitSkipped
from cluster.execution.step import Step, Unit, Workers
from cluster.storage.store import Ledger


class Executor(Protocol):
    """Maps a step over units. A context manager: workers live at most until it is left.

    Whatever the executor, the same units leave the same bytes behind; only the events' order differs.
    """

    def __enter__(self) -> Self:
        """Make ready to run."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all workers."""
        ...

    def run(self, step: Step, units: Iterable[Unit], ledger: Ledger, workers: Workers) -> Generator[Event, None, None]:
        """Bring every unit to an end: skipped, done and committed, or failed.

        Units are pulled only as workers have room for them, so `units` may be endless. Workers commit what they
        compute: no part travels through this process. They are started with the first unit that is not yet done, and
        stay alive for the next run of an equal step. Closing the generator stops the work; what is committed stays.

        Args:
            step: the work.
            units: what to map it over, with unique paths.
            ledger: where parts are committed; a unit whose path is there already is skipped.
            workers: how many workers, and what each occupies.

        Yields:
            What happens, as it happens.

        Raises:
            WorkerStartError: `step.setup` failed, or no worker could be placed: at the start, or after all were lost.
            UnitLostError: workers keep dying, whichever unit they hold.
            StorageError: what is done could not be listed, or what workers commit does not arrive in this store.
        """
        ...


def unfinished(units: Iterable[Unit], ledger: Ledger) -> Iterator[Unit | UnitSkipped]:
    """Sort out what is done, one unit at a time.

    Each folder that a unit is committed to is listed once, when its first unit comes: one request for a thousand
    parts, where asking for each would be a thousand.

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
    """The weight of the units that are not in the ledger; see `unfinished`."""
    return sum(unit.weight for unit in unfinished(units, ledger) if isinstance(unit, Unit))
