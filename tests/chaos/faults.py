"""The faults. Each says whether there was something to break."""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.chaos.rig import Rig, one_of, paused
from tests.cluster.several_nodes import Nodes
from tests.s3.proxy import Plan

Fault = Callable[[Rig, random.Random], bool]


def kill_worker(rig: Rig, chance: random.Random) -> bool:
    """SIGKILL an actor's process."""
    if (pid := one_of(chance, rig.workers())) is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return True


def pause_worker(rig: Rig, chance: random.Random) -> bool:
    """Stop an actor's process for a while: a straggler."""
    if (pid := one_of(chance, rig.workers())) is None:
        return False
    paused(pid, chance.uniform(*rig.fault_s))
    return True


def kill_node(rig: Rig, chance: random.Random) -> bool:
    """SIGKILL a raylet with all its workers; another node joins."""
    rig.nodes.call(Nodes.kill, chance.choice(rig.names))
    time.sleep(chance.uniform(0.0, 3.0))
    rig.heal_cluster()
    return True


def take_spot_machine(rig: Rig, chance: random.Random) -> bool:
    """Tell a node to leave, and kill it a little later."""
    name = chance.choice(rig.names)
    rig.nodes.call(Nodes.give_notice, name)
    time.sleep(chance.uniform(*rig.fault_s))
    rig.nodes.call(Nodes.kill, name)
    rig.heal_cluster()
    return True


def kill_driver(rig: Rig, chance: random.Random) -> bool:
    """SIGKILL the job's driver."""
    return rig.driver is not None and rig.driver.kill()


def lose_head(rig: Rig, chance: random.Random) -> bool:
    """SIGKILL the whole cluster, its head included; the driver goes down with it, and another cluster comes up."""
    if rig.driver is not None:
        rig.driver.kill()
    rig.lose_cluster()
    return True


def kill_s3(rig: Rig, chance: random.Random) -> bool:
    """SIGKILL the S3 server; it comes back after a while."""
    rig.server.kill()
    time.sleep(chance.uniform(*rig.fault_s))
    rig.server.start()
    return True


def _storm(**shares: float) -> Fault:
    def fault(rig: Rig, chance: random.Random) -> bool:
        before = sum(rig.proxy.faults().values())
        rig.proxy.plan = Plan(seed=chance.getrandbits(32), at_most=4, delay_s=2.0, **shares)  # type: ignore[arg-type]
        time.sleep(chance.uniform(*rig.fault_s))
        rig.proxy.plan = None
        return sum(rig.proxy.faults().values()) > before

    return fault


throttle = _storm(slow_down=0.5)
reset_connections = _storm(reset_before=0.25, reset_after=0.25)
answer_slowly = _storm(slow=0.5)
cut_answers = _storm(truncated=0.5)


def fill_disk(rig: Rig, chance: random.Random) -> bool:
    """Take all room that is left on the disk, for a while."""
    assert rig.disk is not None
    filler = rig.disk / ".filler"
    _fill(filler)
    time.sleep(chance.uniform(*rig.fault_s))
    filler.unlink()
    return True


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(1 << 20))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                return


CLUSTER: dict[Fault, float] = {
    kill_worker: 4.0,
    pause_worker: 1.0,
    kill_node: 2.0,
    take_spot_machine: 1.0,
    kill_driver: 3.0,
    lose_head: 0.4,
}
"""Faults of the cluster, and how often each is chosen."""
S3: dict[Fault, float] = {kill_s3: 1.5, throttle: 1.0, reset_connections: 1.5, answer_slowly: 1.0, cut_answers: 1.0}
DISK: dict[Fault, float] = {fill_disk: 3.0}
STORMS = {
    throttle: "503 SlowDown",
    reset_connections: "connections reset",
    answer_slowly: "slow answers",
    cut_answers: "answers cut off",
}
"""Faults that many requests meet; each of these is counted."""


def name_of(fault: Fault) -> str:
    """For people."""
    return STORMS.get(fault) or fault.__name__.replace("_", " ")
