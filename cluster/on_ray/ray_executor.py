"""The executor on Ray: one cluster, a pool of workers for each step that was run lately."""

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
from cluster.on_ray.stage_run import Run
from cluster.on_ray.worker_pool import Pool, fits
from cluster.storage.store import Ledger


class RayExecutor:
    """Workers are Ray actors. Ray is imported, and started or connected to, when the executor is entered.

    Args:
        address: None for a Ray of our own on this machine; "auto", `host:port` or `ray://host:port` for one that is
            running. See `RaySession`.
        num_cpus: logical CPUs of a Ray of our own; None counts the machine's.
        num_gpus: GPUs of a Ray of our own; None counts the machine's.
        capacity_timeout_s: how long to wait for a cluster that has room for no worker: as long as its autoscaler may
            take to bring a node.
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
        self._pools: dict[tuple[Step, Workers], Pool] = {}  # The latest is the last.

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
        """Dismiss all workers, then stop Ray if it was started here."""
        self._dismiss(list(self._pools))
        self._session.__exit__(kind, error, trace)

    def run(self, step: Step, units: Iterable[Unit], ledger: Ledger, workers: Workers) -> Generator[Event, None, None]:
        """See `Executor.run`. A worker that is lost is replaced; its units are tried again, see `Schedule`."""
        key = (step, replace(workers, count=1, helpers=None))
        run: Run | None = None
        try:
            for item in unfinished(units, ledger):
                if isinstance(item, UnitSkipped):
                    yield item
                    continue
                if run is None:
                    run = Run(step, self._pool(key, workers.count), ledger, workers, where=self._session.where)
                yield from run.accept(item)
            if run is not None:
                yield from run.drain()
                self._pools[key].settle()
        except BaseException:  # An interrupt and a closed generator, too: nothing may keep running unobserved.
            if run is not None:
                run.close()
            self._dismiss([key])
            raise

    def _pool(self, key: tuple[Step, Workers], count: int) -> Pool:
        """The pool of a step, warm if there is one; others make room if `count` workers would not fit beside them."""
        pool = self._pools.pop(key, None) or Pool(
            *key,
            capacity_timeout_s=self._capacity_timeout_s,
            can_grow=not self._session.is_own,
            make_room=lambda: self._dismiss([other for other in self._pools if other != key]),
        )
        while self._pools and not fits(self._demand(pool, count)):
            self._dismiss([next(iter(self._pools))])
        self._pools[key] = pool
        pool.resume(count)
        return pool

    def _demand(self, pool: Pool, count: int) -> Counter[str]:
        """What the idle pools hold and `pool` will."""
        total = Counter(pool.demand(count))
        for other in self._pools.values():
            total.update(other.demand(len(other.members)))
        return total

    def _dismiss(self, keys: Iterable[tuple[Step, Workers]]) -> None:
        for key in keys:
            if (pool := self._pools.pop(key, None)) is not None:
                pool.close()
