"""A Ray cluster of one node for the tests that submit jobs: a head with a dashboard on loopback and a token."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from ray_jobs.errors import JobError
from ray_jobs.submission.address import fetch_ray_version

START_S = 180.0
PORTS = range(20_000, 32_768)
"""Below those that systems give to connections."""


@dataclass(frozen=True)
class Head:
    """A running head.

    Attributes:
        address: of its dashboard.
        folder: its session's files, logs among them.
        client: environment variables of whoever talks to it: the token.
    """

    address: str
    folder: Path
    client: dict[str, str]


@contextmanager
def head(**variables: str) -> Iterator[Head]:
    """Start one with `ray start`, and end every process that this has started, and no other.

    Args:
        variables: environment variables of the cluster's own processes: what a pod's secret would be.
    """
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    # Short, because Ray puts sockets there; the nodes know nothing of this checkout.
    with TemporaryDirectory(prefix="r-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        ports = free_ports(4)
        words = [f"--{key}={value}" for key, value in _options(folder, ports).items()]
        process = subprocess.Popen(
            [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--disable-usage-stats", *words],
            env=_environment(folder) | token | variables,
            cwd=folder,
            stdout=(folder / "start.log").open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            address = f"http://127.0.0.1:{ports[0]}"
            _wait_for(address, token, process, folder / "start.log")
            yield Head(address, folder, token)
        finally:
            _end(process)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on, and none of those that the system gives to whoever connects somewhere.

    Of these, one that is free now may be the near end of somebody's connection when Ray comes to listen on it.
    """
    found: list[int] = []
    while len(found) < count:
        port = secrets.choice(PORTS)
        with socket.socket() as taken, suppress(OSError):
            taken.bind(("127.0.0.1", port))
            found += [port] * (port not in found)
    return found


def _options(folder: Path, ports: Sequence[int]) -> dict[str, object]:
    dashboard, *others = ports
    own = dict(zip(("port", "dashboard-agent-listen-port", "ray-client-server-port"), others, strict=True))
    return own | {
        "dashboard-host": "127.0.0.1",
        "dashboard-port": dashboard,
        "temp-dir": folder,
        "num-cpus": 2,
        "object-store-memory": 128 * 2**20,
    }


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHON"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "HOME": str(folder), "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}


def _wait_for(address: str, token: dict[str, str], process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            fetch_ray_version(address, token)
        except JobError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"the head did not start:\n{log.read_text()}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the head to stop; then kill what is left of it."""
    started = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(started, timeout=5)
    for left in alive:
        left.kill()
    psutil.wait_procs(alive, timeout=5)
