"""The executor without Ray: one worker in this process, with a few threads."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Self

from cluster.errors import WorkerBrokenError, WorkerStartError
from cluster.execution.events import Event, UnitDone, UnitFailed, UnitSkipped, WorkersReady
from cluster.execution.executor import unfinished
from cluster.execution.step import Step, Unit, Workers
from cluster.execution.worker import UNIT_RETRY, describe, run_unit
from cluster.storage.retry import Retry
from cluster.storage.store import Ledger

logger = logging.getLogger(__name__)


class LocalExecutor:
    """One worker, in this process. Of `Workers`, it uses only `overlap` and `max_attempts`.

    Args:
        retry: delays between attempts at a unit after storage errors.
    """

    def __init__(self, *, retry: Retry = UNIT_RETRY) -> None:
        self._retry = retry
        self._current: tuple[Step, Any] | None = None

    def __enter__(self) -> Self:
        """Do nothing: there is nothing to prepare."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the state of the last step."""
        self._current = None

    def run(self, step: Step, units: Iterable[Unit], ledger: Ledger, workers: Workers) -> Generator[Event, None, None]:
        """See `Executor.run`. An interrupt waits for the running units, at most `workers.overlap`."""
        running: dict[Future[UnitDone | UnitFailed], Unit] = {}
        ready = False
        with ThreadPoolExecutor(workers.overlap, thread_name_prefix="unit") as threads:
            for item in unfinished(units, ledger):
                if isinstance(item, UnitSkipped):
                    yield item
                    continue
                if not ready:
                    state, ready = self._state(step), True
                    yield WorkersReady(1, "this process", workers.cpus, workers.gpus)
                future = threads.submit(
                    run_unit, step, state, item, ledger, max_attempts=workers.max_attempts, retry=self._retry
                )
                running[future] = item
                while len(running) >= workers.overlap:
                    yield from _next_results(running)
            while running:
                yield from _next_results(running)

    def _state(self, step: Step) -> Any:
        """Return the state of the step; that of the last run if its step is equal. Only one state exists at a time."""
        if self._current is None or self._current[0] != step:
            self._current = None
            logger.info("setting up step=%s", type(step).__name__)
            try:
                self._current = (step, step.setup())
            except Exception as error:
                raise WorkerStartError(
                    f"{type(step).__name__}.setup failed: {type(error).__name__}: {error}"
                ) from error
        return self._current[1]


def _next_results(running: dict[Future[UnitDone | UnitFailed], Unit]) -> Iterator[UnitDone | UnitFailed]:
    """Wait until a unit has finished, remove it from `running`, and yield its result.

    A `BaseException` that is no `Exception` (`SystemExit`, a panic in native code) fails the unit, as on Ray, and does
    not end this process. It is never the user's interrupt: units do not run in the main thread.

    Raises:
        WorkerBrokenError: this process can do no more work.
    """
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        unit, error = running.pop(future), future.exception()
        if isinstance(error, WorkerBrokenError):
            raise error
        yield future.result() if error is None else UnitFailed(unit.path, unit.weight, describe(error), 1)
