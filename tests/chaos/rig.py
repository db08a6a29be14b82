"""What is broken: a cluster of several nodes, an S3 server behind a proxy, a small disk, and a driver."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
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
from tests.s3.bucket import Bucket
from tests.s3.proxy import Proxy
from tests.s3.server import S3Server

NODES = ("one", "two", "three")
DISK_BYTES = 48 << 20


@dataclass
class Rig:
    """All of it.

    Attributes:
        folder: of this run of chaos; every process can read it.
        server: the S3 server.
        bucket: reached through `proxy`.
        proxy: in front of the server.
        disk: a folder on a file system of its own that can be full; None where none can be mounted.
    """

    folder: Path
    server: S3Server
    bucket: Bucket
    proxy: Proxy
    disk: Path | None
    driver: Driver | None = None
    _nodes: SeveralNodes | None = None
    _closing: ExitStack = field(default_factory=ExitStack)

    def start_cluster(self) -> None:
        """Start a head and all nodes."""
        self._nodes = self._closing.enter_context(several_nodes())
        self.heal_cluster()

    def heal_cluster(self) -> None:
        """Let all nodes be there."""
        self.nodes.call(Nodes.ensure, *NODES)

    @property
    def nodes(self) -> SeveralNodes:
        assert self._nodes is not None
        return self._nodes

    @property
    def address(self) -> str:
        """Of the cluster."""
        return self.nodes.call(_address)

    def lose_cluster(self) -> None:
        """SIGKILL everything that is the cluster, its head first, and start another."""
        owner = psutil.Process(self.nodes.call(_pid))
        for process in [*owner.children(recursive=True), owner]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.stop_cluster()
        self.start_cluster()

    def stop_cluster(self) -> None:
        """End it, if it has not ended."""
        closing, self._closing = self._closing, ExitStack()
        with suppress(Exception):  # A cluster that was killed cannot say goodbye.
            closing.close()
        self._nodes = None

    def workers(self) -> list[int]:
        """Process ids of the live actors."""
        return self.nodes.call(_workers)

    def output(self, scenario: Scenario, number: int, *, on_disk: bool) -> tuple[Store, dict[str, Any]]:
        """A new place for results, and the settings that lead there."""
        name = f"{number}-{scenario.name.replace(' ', '-')}"
        if on_disk and self.disk is not None:
            store = Store(str(self.disk / name))
            return store, {"job.output": store.root}
        store = self.bucket.store(name)
        return store, {"job.output": store.root, "storage.endpoint": self.proxy.endpoint}

    def driver_of(self, scenario: Scenario, name: str) -> Driver:
        """What runs a scenario's command, and logs under this name."""
        environment = {"RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1", "FEWSHOT_LOG": "WARNING"}
        return Driver((scenario.command, str(scenario.job)), environment, self.folder / f"{name}.log")

    def start(self, driver: Driver, settings: dict[str, Any]) -> None:
        """Start a driver on the cluster as it is."""
        driver.start({"cluster.address": self.address, "cluster.clip_workers": len(NODES)} | settings)


@contextmanager
def rig_in(folder: Path, server: S3Server) -> Iterator[Rig]:
    """Everything, running.

    Args:
        folder: an empty one that every process can read.
        server: an S3 server, which will be killed and come back.
    """
    bucket = Bucket.create(server, f"chaos-{uuid4().hex}")
    with small_disk(folder / "disk") as disk, bucket.through() as (near, proxy):
        rig = Rig(folder, server, near, proxy, disk)
        rig.start_cluster()
        try:
            yield rig
        finally:
            rig.stop_cluster()


def _address(nodes: Nodes) -> str:
    return str(nodes.cluster.address)


def _pid(nodes: Nodes) -> int:
    return os.getpid()


def _workers(nodes: Nodes) -> list[int]:
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess, IndexError):
            if process.cmdline()[0].startswith("ray::Worker"):
                found.append(process.pid)
    return found


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A file system in memory, mounted for as long as it is needed; None where that is not allowed."""
    folder.mkdir(parents=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


def paused(pid: int, seconds: float) -> None:
    """SIGSTOP, and SIGCONT after a while."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)


def one_of(chance: random.Random, items: list[int]) -> int | None:
    """Any of them."""
    return chance.choice(items) if items else None
