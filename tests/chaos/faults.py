"""The faults. Each returns whether it had a target."""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.chaos.rig import Rig, one_of, pause
from tests.cluster.several_nodes import Nodes
from tests.s3.proxy import Plan

Fault = Callable[[Rig, random.Random], bool]


def kill_worker(rig: Rig, rng: random.Random) -> bool:
    """SIGKILL the process of an actor."""
    if (pid := one_of(rng, rig.workers())) is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return True


def pause_worker(rig: Rig, rng: random.Random) -> bool:
    """Suspend the process of an actor for a while: a straggler."""
    if (pid := one_of(rng, rig.workers())) is None:
        return False
    pause(pid, rng.uniform(*rig.fault_s))
    return True


def kill_node(rig: Rig, rng: random.Random) -> bool:
    """SIGKILL a raylet with all of its workers; another node joins."""
    rig.nodes.call(Nodes.kill, rng.choice(rig.names))
    time.sleep(rng.uniform(0.0, 3.0))
    rig.restore_nodes()
    return True


def take_spot_machine(rig: Rig, rng: random.Random) -> bool:
    """Drain a node, and kill it a little later."""
    name = rng.choice(rig.names)
    rig.nodes.call(Nodes.give_notice, name)
    time.sleep(rng.uniform(*rig.fault_s))
    rig.nodes.call(Nodes.kill, name)
    rig.restore_nodes()
    return True


def kill_driver(rig: Rig, rng: random.Random) -> bool:
    """SIGKILL the driver of the job."""
    return rig.driver is not None and rig.driver.kill()


def lose_head(rig: Rig, rng: random.Random) -> bool:
    """SIGKILL the driver and the whole cluster with its head, then start another cluster."""
    if rig.driver is not None:
        rig.driver.kill()
    rig.replace_cluster()
    return True


def kill_s3(rig: Rig, rng: random.Random) -> bool:
    """SIGKILL the S3 server, and start it again after a while."""
    rig.server.kill()
    time.sleep(rng.uniform(*rig.fault_s))
    rig.server.start()
    return True


def _storm(**shares: float) -> Fault:
    def fault(rig: Rig, rng: random.Random) -> bool:
        before = sum(rig.proxy.faults().values())
        rig.proxy.plan = Plan(seed=rng.getrandbits(32), at_most=4, delay_s=2.0, **shares)  # type: ignore[arg-type]
        time.sleep(rng.uniform(*rig.fault_s))
        rig.proxy.plan = None
        return sum(rig.proxy.faults().values()) > before

    return fault


throttle = _storm(slow_down=0.5)
reset_connections = _storm(reset_before=0.25, reset_after=0.25)
delay_responses = _storm(slow=0.5)
truncate_responses = _storm(truncated=0.5)


def fill_disk(rig: Rig, rng: random.Random) -> bool:
    """Fill the disk for a while."""
    assert rig.disk is not None
    filler = rig.disk / ".filler"
    _fill(filler)
    time.sleep(rng.uniform(*rig.fault_s))
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
"""Faults of the cluster, and their relative frequencies."""
S3: dict[Fault, float] = {
    kill_s3: 1.5,
    throttle: 1.0,
    reset_connections: 1.5,
    delay_responses: 1.0,
    truncate_responses: 1.0,
}
DISK: dict[Fault, float] = {fill_disk: 3.0}
STORMS = {
    throttle: "503 SlowDown",
    reset_connections: "connections reset",
    delay_responses: "slow responses",
    truncate_responses: "truncated responses",
}
"""Faults of many requests, each of which is counted."""


def name_of(fault: Fault) -> str:
    """Return the name of a fault for reports."""
    return STORMS.get(fault) or fault.__name__.replace("_", " ")
