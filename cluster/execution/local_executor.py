"""The executor without Ray: this process, its devices, a few threads."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Self

from cluster.errors import WorkerStartError
from cluster.execution.events import Event, UnitDone, UnitFailed, UnitSkipped, WorkersReady
from cluster.execution.executor import unfinished
from cluster.execution.step import Step, Unit, Workers
from cluster.execution.worker import UNIT_RETRY, describe, run_unit
from cluster.storage.retry import Retry
from cluster.storage.store import Ledger

logger = logging.getLogger(__name__)


class LocalExecutor:
    """One worker, in this process. Of `Workers`, only `overlap` and `max_attempts` matter to it.

    Args:
        retry: the delays between attempts at a unit whose storage failed.
    """

    def __init__(self, *, retry: Retry = UNIT_RETRY) -> None:
        self._retry = retry
        self._live: tuple[Step, Any] | None = None

    def __enter__(self) -> Self:
        """Nothing to prepare."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the state of the last step."""
        self._live = None

    def run(self, step: Step, units: Iterable[Unit], ledger: Ledger, workers: Workers) -> Generator[Event, None, None]:
        """See `Executor.run`. An interrupt waits for the units that are running, at most `workers.overlap`."""
        running: dict[Future[UnitDone | UnitFailed], Unit] = {}
        ready = False
        with ThreadPoolExecutor(workers.overlap, thread_name_prefix="unit") as threads:
            for item in unfinished(units, ledger):
                if isinstance(item, UnitSkipped):
                    yield item
                    continue
                if not ready:
                    state, ready = self._state(step), True
                    yield WorkersReady(1, "this process")
                future = threads.submit(
                    run_unit, step, state, item, ledger, max_attempts=workers.max_attempts, retry=self._retry
                )
                running[future] = item
                while len(running) >= workers.overlap:
                    yield from _finished(running)
            while running:
                yield from _finished(running)

    def _state(self, step: Step) -> Any:
        """The state of the step, set up unless the last run was of an equal one. Two never exist at a time."""
        if self._live is None or self._live[0] != step:
            self._live = None
            logger.info("setting up step=%s", type(step).__name__)
            try:
                self._live = (step, step.setup())
            except Exception as error:
                raise WorkerStartError(
                    f"{type(step).__name__}.setup failed: {type(error).__name__}: {error}"
                ) from error
        return self._live[1]


def _finished(running: dict[Future[UnitDone | UnitFailed], Unit]) -> Iterator[UnitDone | UnitFailed]:
    """Wait until something has finished, and take it out of `running`.

    What is no `Exception` (a `SystemExit`, a panic in native code) fails the unit, as on Ray, instead of ending this
    process. It is never the user's interrupt: units do not run in the main thread.
    """
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        unit, error = running.pop(future), future.exception()
        yield future.result() if error is None else UnitFailed(unit.path, unit.weight, describe(error), 1)
