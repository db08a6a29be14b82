"""The targets of faults: a cluster of several nodes, an S3 server behind a proxy, a small disk, and a driver."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from cluster import Store
from tests.chaos.driver import Driver
from tests.chaos.scenarios import Scenario
from tests.cluster.several_nodes import Nodes, SeveralNodes, several_nodes
from tests.ray_jobs.place import ray_workers
from tests.s3.bucket import Bucket
from tests.s3.proxy import Proxy
from tests.s3.server import S3Server

NODES = ("one", "two", "three")
FAULT_S = (2.0, 6.0)
DISK_BYTES = 48 << 20


@dataclass
class Rig:
    """All targets.

    Attributes:
        folder: of this chaos run; every process can read it.
        server: the S3 server.
        bucket: on the server, behind `proxy`.
        proxy: before the server.
        disk: a folder on its own small file system; None where none can be mounted.
        names: of the nodes besides the head.
        fault_s: bounds of the duration of a fault, in seconds.
        driver: the driver that faults may kill.
    """

    folder: Path
    server: S3Server
    bucket: Bucket
    proxy: Proxy
    disk: Path | None
    names: Sequence[str]
    fault_s: tuple[float, float]
    driver: Driver | None = None
    _nodes: SeveralNodes | None = None
    _closing: ExitStack = field(default_factory=ExitStack)

    def start_cluster(self) -> None:
        """Start a head and all nodes."""
        self._nodes = self._closing.enter_context(several_nodes())
        self.restore_nodes()

    def restore_nodes(self) -> None:
        """Start the nodes that are missing."""
        self.nodes.call(Nodes.ensure, *self.names)

    @property
    def nodes(self) -> SeveralNodes:
        assert self._nodes is not None
        return self._nodes

    @property
    def address(self) -> str:
        """Address of the cluster."""
        return self.nodes.call(_address)

    def replace_cluster(self) -> None:
        """SIGKILL all processes of the cluster, its head first, and start another."""
        self.kill_cluster()
        self.start_cluster()

    def kill_cluster(self) -> None:
        """SIGKILL all processes of the cluster, its head first, if there is one."""
        if self._nodes is None:
            return
        owner = psutil.Process(self.nodes.call(_pid))
        for process in [*owner.children(recursive=True), owner]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        closing, self._closing = self._closing, ExitStack()
        with suppress(BrokenProcessPool):  # A killed cluster cannot shut down.
            closing.close()
        self._nodes = None

    def workers(self) -> list[int]:
        """Return the process ids of the live actors."""
        return self.nodes.call(_workers)

    def output(self, name: str, *, on_disk: bool) -> tuple[Store, dict[str, Any]]:
        """Return a new output for results, and the settings of the job file for it."""
        if on_disk and self.disk is not None:
            store = Store(str(self.disk / name))
            return store, {"job.output": store.root}
        store = self.bucket.store(name)
        return store, {"job.output": store.root, "storage.endpoint": self.proxy.endpoint}

    def driver_of(self, scenario: Scenario, name: str) -> Driver:
        """Return the driver of a scenario, with a log of this name. Faults apply to it from now on."""
        self.driver = Driver.from_scenario(scenario, self.folder / f"{name}.log")
        return self.driver

    def start(self, driver: Driver, settings: dict[str, Any]) -> None:
        """Start a driver on the present cluster."""
        driver.start({"cluster.address": self.address, "cluster.clip_workers": len(self.names)} | settings)

    def activity(self) -> int:
        """Return a number that grows with every request and file of drivers and workers."""
        files = 0 if self.disk is None else sum(len(names) for _, _, names in os.walk(self.disk))
        return len(self.proxy.requests) + files


@contextmanager
def rig_in(
    folder: Path, server: S3Server, *, names: Sequence[str] = NODES, fault_s: tuple[float, float] = FAULT_S
) -> Iterator[Rig]:
    """Start all targets, and stop them at the end.

    Args:
        folder: every process can read it; contains no `disk` yet.
        server: an S3 server, which will be killed and restarted.
        names: of the nodes besides the head.
        fault_s: bounds of the duration of a fault, in seconds.
    """
    bucket = Bucket.create(server, f"chaos-{uuid4().hex}")
    with small_disk(folder / "disk") as disk, bucket.through() as (near, proxy):
        rig = Rig(folder, server, near, proxy, disk, names, fault_s)
        try:
            rig.start_cluster()
            yield rig
        finally:
            if rig.driver is not None:
                rig.driver.kill()
            rig.kill_cluster()


def _address(nodes: Nodes) -> str:
    return str(nodes.cluster.address)


def _pid(nodes: Nodes) -> int:
    return os.getpid()


def _workers(nodes: Nodes) -> list[int]:
    return [process.pid for process in ray_workers()]


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """Mount a small file system in memory, and unmount it at the end; None where that is not allowed."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


def pause(pid: int, seconds: float) -> None:
    """Suspend a process, and resume it after a while."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)


def one_of(rng: random.Random, items: list[int]) -> int | None:
    """Return a random item; None if there is none."""
    return rng.choice(items) if items else None
