"""One run of a step over its units on a pool of workers: a loop that hands out, waits and reports."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cluster.errors import StorageError
from cluster.execution.events import Event, UnitDone, UnitFailed, WorkerLost, WorkersReady
from cluster.execution.loss_attribution import LossAttribution, PendingLoss
from cluster.execution.schedule import InFlightUnit, Schedule, StragglerDetector
from cluster.execution.step import Step, Unit, Workers
from cluster.execution.worker import describe
from cluster.on_ray.actor import Member
from cluster.on_ray.helpers import HelperTasks
from cluster.on_ray.nodes import dead, draining
from cluster.on_ray.worker_pool import Pool, reason_of, went_with_its_node
from cluster.storage.store import Ledger

logger = logging.getLogger(__name__)

_TICK_S = 1.0
_NOTICE_S = 60.0
_SETTLE_S = 10.0
_LOOK_EVERY_S = 1.0
_LISTEN_EVERY_S = 0.1


class Run:
    """Everything that is in flight. Single-threaded; the generators only move while they are consumed.

    Args:
        step: the work.
        pool: the workers.
        ledger: where they commit.
        workers: how many to use, and how often to try.
        where: the name of the cluster, for the user.
    """

    def __init__(self, step: Step, pool: Pool, ledger: Ledger, workers: Workers, *, where: str) -> None:
        self._pool = pool
        self._ledger = ledger
        self._workers = workers
        self._where = where
        self._preparing = HelperTasks(step, workers.helpers)
        self._schedule: Schedule[Member] = Schedule(
            overlap=workers.overlap,
            max_attempts=workers.max_attempts,
            unprepared=1 if self._preparing.room else workers.overlap,
        )
        self._room = workers.count * workers.overlap + self._preparing.room
        self._calls: dict[Any, tuple[Member, InFlightUnit]] = {}
        self._pace = StragglerDetector()
        self._is_last = False
        self._trials = LossAttribution()
        self._looked = self._listened = float("-inf")
        self._announced = False
        self._quiet_since = time.monotonic()

    def accept(self, unit: Unit) -> Iterator[Event]:
        """Take a unit, then go on until there is room for another."""
        self._schedule.add_unit(unit)
        self._hand_out()
        if time.monotonic() - self._listened > _LISTEN_EVERY_S:
            yield from self._turn(0.0)
        while self._schedule.unfinished >= self._room:
            yield from self._turn(_TICK_S)

    def drain(self) -> Iterator[Event]:
        """Go on until every unit that was taken has come to an end. Who is still at one that has is dismissed."""
        self._is_last = True
        while self._schedule.unfinished:
            yield from self._turn(_TICK_S)
        for member in {member for member, _ in self._calls.values()}:
            self._pool.dismiss(member)

    def close(self) -> None:
        """Stop the helpers. Workers belong to the pool."""
        self._preparing.close()

    def _hand_out(self) -> None:
        """Give workers what they can take, and helpers what is left."""
        self._pool.staff(min(self._workers.count, self._schedule.unfinished))
        for member, ticket in self._schedule.assign():
            ticket.started = time.monotonic()
            self._start(member, ticket)
        while self._preparing.has_room(beside=self._schedule.num_prepared):
            if (lent := self._schedule.take_for_helper()) is None:
                break
            self._preparing.begin(lent)

    def _start(self, member: Member, ticket: InFlightUnit) -> None:
        prepared = [] if ticket.prepared is None else [ticket.prepared]
        answer = member.actor.run.remote(ticket.unit, self._ledger, self._workers.max_attempts, prepared)
        self._calls[answer] = (member, ticket)

    def _turn(self, timeout_s: float) -> Iterator[Event]:
        """Hand out what can be, then report what has happened, waiting at most `timeout_s` for something."""
        yield from self._look_around()
        self._hand_out()
        starting, lent = self._pool.starting, self._preparing.references
        awaited = [*self._calls, *starting, *lent]
        if not awaited:  # The last worker was lost, and its successor is not yet due.
            time.sleep(timeout_s)
        for answer in _ready(awaited, timeout_s):
            self._quiet_since = time.monotonic()
            if answer in self._calls:
                yield from self._on_answer(answer)
            elif answer in starting:
                yield from self._on_start(starting[answer])
            elif answer in lent:
                self._schedule.requeue(self._preparing.end(answer))
        self._listened = time.monotonic()
        self._pool.check_room()
        self._notice()

    def _on_start(self, member: Member) -> Iterator[Event]:
        from ray.exceptions import RayError

        try:
            self._pool.greet(member)
        except RayError as error:
            yield from self._on_loss(member, error)
            return
        self._schedule.add_worker(member)
        self._preparing.learn(member.actor)
        if not self._announced:
            self._announced = True
            yield WorkersReady(self._workers.count, self._where)

    def _on_answer(self, answer: Any) -> Iterator[Event]:
        from ray.exceptions import RayError

        member, _ = self._calls[answer]
        try:
            yield from self._finish(answer)
        except RayError as error:
            yield from self._on_loss(member, error)

    def _finish(self, answer: Any) -> Iterator[Event]:
        """Take the answer of a worker. A RayError says that it will give none."""
        import ray
        from ray.exceptions import RayTaskError

        member, ticket = self._calls[answer]
        event: UnitDone | UnitFailed
        try:
            event = ray.get(answer)
        except RayTaskError as error:  # Not the step's: the unit did not survive the way to the worker or back.
            event = UnitFailed(ticket.unit.path, ticket.unit.weight, describe(error), 1)
        if isinstance(event, UnitDone) and not member.is_visible:
            self._look_for(event.path)
            member.is_visible = True
        del self._calls[answer]
        self._pool.answered()
        if self._schedule.finish(member, ticket):
            if isinstance(event, UnitDone):
                self._pace.add(event.seconds, weight=event.weight)
                yield event
            else:
                yield replace(event, attempts=event.attempts + ticket.losses)

    def _on_loss(self, member: Member, error: Exception) -> Iterator[Event]:
        """Make sure the worker is dead, take what it had answered before, and let the rest wait for a verdict."""
        import ray
        from ray.exceptions import ActorUnavailableError, RayError

        ray.kill(member.actor)
        held = [answer for answer, (owner, _) in self._calls.items() if owner is member]
        for answer in _ready(held, _SETTLE_S, all_of_them=True):
            try:
                yield from self._finish(answer)
            except RayError:
                continue
        for answer in held:
            self._calls.pop(answer, None)
        reason, lost = reason_of(error), self._schedule.lose_worker(member)
        self._pool.drop(member)
        yield WorkerLost(reason, tuple(ticket.unit.path for ticket in lost))
        if member.is_leaving or went_with_its_node(error):
            self._schedule.clear(lost)
            return
        is_certain = not isinstance(error, ActorUnavailableError)
        self._trials.add(lost, node=member.node, reason=reason, is_certain=is_certain)

    def _look_around(self) -> Iterator[Event]:
        """Once a second: which nodes are leaving, and which are gone?"""
        if time.monotonic() - self._looked < _LOOK_EVERY_S:
            return
        self._looked = time.monotonic()
        self._vacate(draining())
        if self._schedule.is_starved:
            for ticket in self._preparing.recall():
                self._schedule.requeue(ticket)
        if self._is_last:
            self._copy_slow_units()
        if self._trials:
            yield from self._judge(dead(self._trials.nodes))

    def _copy_slow_units(self) -> None:
        """No more units will come: let idle workers run what takes suspiciously long a second time."""
        now = time.monotonic()
        while pair := self._schedule.duplicate(
            lambda ticket: self._pace.is_slow(now - ticket.started, weight=ticket.unit.weight)
        ):
            logger.info("slow unit is run twice path=%s", pair[1].unit.path)
            self._start(*pair)

    def _vacate(self, nodes: frozenset[str]) -> None:
        """Workers on nodes that leave take nothing new, finish what they hold, and go."""
        for member in [member for member in self._pool.members if nodes and member.node in nodes]:
            member.is_leaving = True
            if self._schedule.drain_worker(member):
                logger.info("worker leaves node=%s", member.node)
                self._pool.dismiss(member)

    def _judge(self, gone: frozenset[str]) -> Iterator[Event]:
        """Acquit the units of workers that went with their nodes, and suspect those of the others."""
        for trial, died_by_itself in self._trials.resolve(gone):
            if died_by_itself:
                yield from self._blame(trial)
            else:
                self._schedule.clear(trial.units)

    def _blame(self, trial: PendingLoss) -> Iterator[Event]:
        for ticket in self._schedule.blame(trial.units):
            message = (
                f"UnitLostError: it took its worker down {ticket.losses} times, at last alone on it. {trial.reason}"
            )
            yield UnitFailed(ticket.unit.path, ticket.unit.weight, message, ticket.losses)
        self._pool.count_loss(trial.reason)

    def _look_for(self, path: str) -> None:
        """Check a worker's first part: on another machine, a local folder of the same name is another folder."""
        if not self._ledger.store.exists(path):
            raise StorageError(
                f"a worker committed {self._ledger.store.url(path)}, but it is not there for this process. Choose an "
                "output that all machines share."
            )

    def _notice(self) -> None:
        """Say what is being waited for, when nothing has happened for a while."""
        if time.monotonic() - self._quiet_since < _NOTICE_S:
            return
        self._quiet_since = time.monotonic()
        logger.warning(
            "waiting for %.0f s workers=%d starting=%d unplaced_s=%.0f running=%s",
            _NOTICE_S,
            len(self._pool.members),
            len(self._pool.starting),
            self._pool.waited_s(),
            [ticket.unit.path for _, ticket in self._calls.values()][:5],
        )


def _ready(answers: list[Any], timeout_s: float, *, all_of_them: bool = False) -> list[Any]:
    """The answers that have come, waiting until there is one, or all of them, or the time is over."""
    import ray

    if not answers:
        return []
    # What helpers prepare is not for this machine, so nothing is fetched to it.
    ray.wait(answers, num_returns=len(answers) if all_of_them else 1, timeout=timeout_s, fetch_local=False)
    ready: list[Any] = ray.wait(answers, num_returns=len(answers), timeout=0, fetch_local=False)[0]
    return ready
