"""The executor on Ray: one cluster, and a pool of workers for each recent step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable
from dataclasses import replace
from types import TracebackType
from typing import Self

from cluster.execution.events import Event, UnitSkipped
from cluster.execution.executor import unfinished
from cluster.execution.step import Step, Unit, Workers
from cluster.on_ray.session import RaySession
from cluster.on_ray.stage_run import StageRun
from cluster.on_ray.worker_pool import WorkerPool, fits_cluster
from cluster.storage.store import Ledger


class RayExecutor:
    """Workers are Ray actors. Ray is imported, and started or connected to, when the executor is entered.

    Args:
        address: None starts Ray on this machine; "auto", `host:port` or `ray://host:port` connects to one that is
            running. See `RaySession`.
        num_cpus: logical CPUs of a Ray that is started here; None is the number of the machine.
        num_gpus: GPUs of a Ray that is started here; None is the number of the machine.
        capacity_timeout_s: how long to wait for a cluster without room for any worker: as long as its autoscaler may
            take to add a node.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        num_cpus: int | None = None,
        num_gpus: int | None = None,
        capacity_timeout_s: float = 600.0,
    ) -> None:
        self._session = RaySession(address, num_cpus=num_cpus, num_gpus=num_gpus)
        self._capacity_timeout_s = capacity_timeout_s
        self._pools: dict[tuple[Step, Workers], WorkerPool] = {}  # The most recent is last.

    @property
    def where(self) -> str:
        """A name of this Ray for messages."""
        return self._session.where

    def __enter__(self) -> Self:
        """Start Ray or connect to it.

        Raises:
            ClusterError: that is not possible.
        """
        self._session.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all workers, then Ray if it was started here."""
        self._close_pools(list(self._pools))
        self._session.__exit__(kind, error, trace)

    def run(self, step: Step, units: Iterable[Unit], ledger: Ledger, workers: Workers) -> Generator[Event, None, None]:
        """See `Executor.run`. A lost worker is replaced, and its units run again; see `Schedule`."""
        key = (step, replace(workers, count=1, helpers=None))
        run: StageRun | None = None
        try:
            for item in unfinished(units, ledger):
                if isinstance(item, UnitSkipped):
                    yield item
                    continue
                if run is None:
                    run = StageRun(step, self._pool(key, workers.count), ledger, workers, where=self._session.where)
                yield from run.submit(item)
            if run is not None:
                yield from run.drain()
                self._pools[key].end_run()
        except BaseException:  # Also an interrupt and a closed generator: nothing may keep running unobserved.
            if run is not None:
                run.close()
            self._close_pools([key])
            raise

    def _pool(self, key: tuple[Step, Workers], count: int) -> WorkerPool:
        """Return the pool of a step, perhaps with live workers; close others if `count` workers need their room."""
        pool = self._pools.pop(key, None) or WorkerPool(
            *key,
            capacity_timeout_s=self._capacity_timeout_s,
            can_grow=not self._session.is_own,
            make_room=lambda: self._close_pools([other for other in self._pools if other != key]),
        )
        while self._pools and not fits_cluster(self._demand(pool, count)):
            self._close_pools([next(iter(self._pools))])
        self._pools[key] = pool
        pool.begin_run(count)
        return pool

    def _demand(self, pool: WorkerPool, count: int) -> Counter[str]:
        """Return the resources of the idle pools and those that `pool` will use."""
        total = Counter(pool.demand(count))
        for other in self._pools.values():
            total.update(other.demand(len(other.workers)))
        return total

    def _close_pools(self, keys: Iterable[tuple[Step, Workers]]) -> None:
        for key in keys:
            if (pool := self._pools.pop(key, None)) is not None:
                pool.close()
