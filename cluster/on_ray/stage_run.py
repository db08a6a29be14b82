"""One run of a step over its units on a pool of workers: a loop that dispatches, waits and reports."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cluster.errors import StorageError, WorkerBrokenError
from cluster.execution.events import Event, UnitDone, UnitFailed, WorkerLost, WorkersReady
from cluster.execution.loss_attribution import LossAttribution, PendingLoss
from cluster.execution.schedule import LOOKAHEAD, InFlightUnit, Schedule, StragglerDetector
from cluster.execution.step import Step, Unit, Workers
from cluster.execution.worker import describe
from cluster.on_ray.actor import WorkerHandle
from cluster.on_ray.helpers import HelperTasks
from cluster.on_ray.metrics import count_loss
from cluster.on_ray.nodes import dead_nodes, draining_nodes
from cluster.on_ray.worker_pool import WorkerPool, is_node_death, loss_reason
from cluster.storage.store import Ledger

logger = logging.getLogger(__name__)

_POLL_TIMEOUT_S = 1.0
_IDLE_LOG_S = 60.0
_LAST_RESULTS_S = 10.0
_CHECK_NODES_EVERY_S = 1.0
_POLL_EVERY_S = 0.1


class StageRun:
    """The units in flight of one run. Single-threaded; the generators advance only while they are consumed.

    Args:
        step: the work.
        pool: the workers.
        ledger: where they commit.
        workers: the number of workers to use, and the number of attempts.
        where: name of the cluster for messages.
    """

    def __init__(self, step: Step, pool: WorkerPool, ledger: Ledger, workers: Workers, *, where: str) -> None:
        self._step = step
        self._pool = pool
        self._ledger = ledger
        self._workers = workers
        self._where = where
        self._helpers = HelperTasks(step, workers.helpers)
        self._schedule: Schedule[WorkerHandle] = Schedule(
            overlap=workers.overlap,
            max_attempts=workers.max_attempts,
            unprepared=1 if self._helpers.max_in_flight else workers.overlap,
        )
        self._max_in_flight = workers.count * workers.overlap + self._helpers.max_in_flight
        self._calls: dict[Any, tuple[WorkerHandle, InFlightUnit]] = {}
        self._stragglers = StragglerDetector()
        self._losses = LossAttribution()
        self._all_submitted = False
        self._is_announced = False
        self._nodes_checked_at = self._polled_at = float("-inf")
        self._last_result_at = time.monotonic()

    def submit(self, unit: Unit) -> Iterator[Event]:
        """Add a unit, then run until there is room for another; gather some first if workers may prefer one."""
        self._schedule.add_unit(unit)
        room = self._max_in_flight + (LOOKAHEAD if unit.needs else 0)
        if unit.needs and self._schedule.unfinished < room:
            return
        self._dispatch()
        if time.monotonic() - self._polled_at > _POLL_EVERY_S:
            yield from self._poll(0.0)
        while self._schedule.unfinished >= room:
            yield from self._poll(_POLL_TIMEOUT_S)

    def drain(self) -> Iterator[Event]:
        """Run until every submitted unit has ended. Then stop the workers that still run a duplicate."""
        self._all_submitted = True
        while self._schedule.unfinished:
            yield from self._poll(_POLL_TIMEOUT_S)
        for worker in {worker for worker, _ in self._calls.values()}:
            self._pool.stop(worker)

    def close(self) -> None:
        """Cancel the helpers' tasks. The workers belong to the pool."""
        self._helpers.close()

    def _dispatch(self) -> None:
        """Start missing workers, and assign units to workers first, then to helpers."""
        self._pool.start_workers(min(self._workers.count, self._schedule.unfinished))
        for worker, item in self._schedule.assign():
            item.started = time.monotonic()
            self._call(worker, item)
        while self._helpers.has_slot(num_prepared=self._schedule.num_prepared):
            if (taken := self._schedule.take_for_helper()) is None:
                break
            self._helpers.start(taken)

    def _call(self, worker: WorkerHandle, item: InFlightUnit) -> None:
        prepared = [] if item.prepared is None else [item.prepared]
        result = worker.actor.run.remote(item.unit, self._ledger, self._workers.max_attempts, prepared)
        self._calls[result] = (worker, item)

    def _poll(self, timeout_s: float) -> Iterator[Event]:
        """Dispatch units, then yield the events of all results, after waiting for at most `timeout_s` for one."""
        yield from self._check_nodes()
        self._dispatch()
        starting, preparing = self._pool.starting, self._helpers.references
        pending = [*self._calls, *starting, *preparing]
        if not pending:  # The last worker was lost, and its replacement is delayed.
            time.sleep(timeout_s)
        for result in _wait_for(pending, timeout_s):
            self._last_result_at = time.monotonic()
            if result in self._calls:
                yield from self._on_result(result)
            elif result in starting:
                yield from self._on_start(starting[result])
            elif result in preparing:
                self._schedule.requeue(self._helpers.finish(result))
        self._polled_at = time.monotonic()
        self._pool.check_capacity()
        self._log_if_idle()

    def _on_start(self, worker: WorkerHandle) -> Iterator[Event]:
        from ray.exceptions import RayError

        try:
            self._pool.finish_start(worker)
        except RayError as error:
            yield from self._on_loss(worker, error)
            return
        self._schedule.add_worker(worker, worker.had)
        self._helpers.request_tools(worker.actor)
        if not self._is_announced:
            self._is_announced = True
            yield WorkersReady(self._workers.count, self._where, self._workers.cpus, self._workers.gpus)

    def _on_result(self, result: Any) -> Iterator[Event]:
        from ray.exceptions import RayError

        worker, _ = self._calls[result]
        try:
            yield from self._finish(result)
        except RayError as error:
            yield from self._on_loss(worker, error)

    def _finish(self, result: Any) -> Iterator[Event]:
        """Take the result of a unit. A RayError means that there will be none."""
        import ray
        from ray.exceptions import RayTaskError

        worker, item = self._calls[result]
        event: UnitDone | UnitFailed
        try:
            event = ray.get(result)
        except WorkerBrokenError:  # Ray makes it a RayError, too.
            raise
        except RayTaskError as error:  # Not from the step: the unit or its result could not be unpickled.
            event = UnitFailed(item.unit.path, item.unit.weight, describe(error), 1)
        if isinstance(event, UnitDone) and not worker.is_visible:
            self._check_visible(event.path)
            worker.is_visible = True
        del self._calls[result]
        self._pool.count_result()
        if self._schedule.finish(worker, item):
            if isinstance(event, UnitDone):
                self._stragglers.add(event.seconds, weight=event.weight)
                yield event
            else:
                yield replace(event, attempts=event.attempts + item.losses)

    def _on_loss(self, worker: WorkerHandle, error: Exception) -> Iterator[Event]:
        """Kill the worker, take the results that it gave before, and hold its units until the loss is resolved."""
        import ray
        from ray.exceptions import ActorUnavailableError, RayError

        ray.kill(worker.actor)
        results = [result for result, (owner, _) in self._calls.items() if owner is worker]
        for result in _wait_for(results, _LAST_RESULTS_S, all_of_them=True):
            try:
                yield from self._finish(result)
            except RayError:
                continue
        for result in results:
            self._calls.pop(result, None)
        reason, lost = loss_reason(error), self._schedule.lose_worker(worker)
        self._pool.remove_lost(worker)
        count_loss(self._step, len(lost))
        yield WorkerLost(reason, tuple(item.unit.path for item in lost))
        if worker.is_draining or is_node_death(error):
            self._schedule.clear(lost)
            return
        is_certain = not isinstance(error, ActorUnavailableError)
        self._losses.add(lost, node=worker.node, reason=reason, is_certain=is_certain)

    def _check_nodes(self) -> Iterator[Event]:
        """Once a second, drain nodes that have notice, requeue delayed units, and resolve losses."""
        if time.monotonic() - self._nodes_checked_at < _CHECK_NODES_EVERY_S:
            return
        self._nodes_checked_at = time.monotonic()
        self._drain_nodes(draining_nodes())
        if self._schedule.is_starved:
            for item in self._helpers.cancel_delayed():
                self._schedule.requeue(item)
        if self._all_submitted:
            self._duplicate_slow_units()
        if self._losses:
            yield from self._resolve_losses(dead_nodes(self._losses.nodes))

    def _duplicate_slow_units(self) -> None:
        """Run units that take unusually long on idle workers as well, when no further units will be submitted."""
        now = time.monotonic()
        while pair := self._schedule.duplicate(
            lambda item: self._stragglers.is_slow(now - item.started, weight=item.unit.weight)
        ):
            logger.info("slow unit duplicated path=%s", pair[1].unit.path)
            self._call(*pair)

    def _drain_nodes(self, nodes: frozenset[str]) -> None:
        """Assign nothing new to workers on these nodes, and stop them when their units have finished."""
        for worker in [worker for worker in self._pool.workers if nodes and worker.node in nodes]:
            worker.is_draining = True
            if self._schedule.drain_worker(worker):
                logger.info("worker drained node=%s", worker.node)
                self._pool.stop(worker)

    def _resolve_losses(self, nodes: frozenset[str]) -> Iterator[Event]:
        """Clear the units of workers that died with their nodes, and blame those of the others."""
        for loss, is_own_death in self._losses.resolve(nodes):
            if is_own_death:
                yield from self._blame(loss)
            else:
                self._schedule.clear(loss.units)

    def _blame(self, loss: PendingLoss) -> Iterator[Event]:
        for item in self._schedule.blame(loss.units):
            message = (
                f"UnitLostError: its worker died {item.losses} times, the last time with no other unit on it. "
                f"{loss.reason}"
            )
            yield UnitFailed(item.unit.path, item.unit.weight, message, item.losses)
        self._pool.count_loss(loss.reason)

    def _check_visible(self, path: str) -> None:
        """Check a worker's first part: on another machine, a local folder of the same name is another folder."""
        if not self._ledger.store.exists(path):
            raise StorageError(
                f"a worker committed {self._ledger.store.url(path)}, but this process cannot find it there. Choose an "
                "output that all machines share."
            )

    def _log_if_idle(self) -> None:
        """Log the state of the run when there was no result for a while."""
        if time.monotonic() - self._last_result_at < _IDLE_LOG_S:
            return
        self._last_result_at = time.monotonic()
        logger.warning(
            "no result for %.0f s workers=%d starting=%d unplaced_s=%.0f running=%s",
            _IDLE_LOG_S,
            len(self._pool.workers),
            len(self._pool.starting),
            self._pool.unplaced_s(),
            [item.unit.path for _, item in self._calls.values()][:5],
        )


def _wait_for(results: list[Any], timeout_s: float, *, all_of_them: bool = False) -> list[Any]:
    """Wait until one result is there, or all of them, or the timeout has passed; return those that are there."""
    import ray

    if not results:
        return []
    # Results of helpers are not for this machine, so nothing is fetched to it.
    ray.wait(results, num_returns=len(results) if all_of_them else 1, timeout=timeout_s, fetch_local=False)
    ready: list[Any] = ray.wait(results, num_returns=len(results), timeout=0, fetch_local=False)[0]
    return ready
