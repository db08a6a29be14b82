"""A cluster of several nodes on this machine: real raylets, which can join, drain, and be killed.

It has its own process, because a process is connected to one Ray at a time and the other tests use another. Tests send
functions there: `cluster.call(function, …)` runs `function(nodes, …)` in that process.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, Concatenate, ParamSpec, TypeVar

from tests.slow_start import wait_for_slow_nodes

P = ParamSpec("P")
T = TypeVar("T")

TIMEOUT_S = 240.0
QUICK_HEALTH_CHECKS = {
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 3,
    "health_check_initial_delay_ms": 2000,
}


@dataclass
class Nodes:
    """The nodes of the process. Each has a label `name`, one CPU and, nominally, one GPU.

    Attributes:
        cluster: a `ray.cluster_utils.Cluster` whose head has no CPU.
        known: nodes by name, dead ones included until they are requested again.
    """

    cluster: Any
    known: dict[str, Any] = field(default_factory=dict)

    def ensure(self, *names: str) -> None:
        """Start and kill nodes until exactly these are alive."""
        for name in self.known.keys() - set(names):
            self.kill(name)
        for name in names:
            if name not in self.known or not self.is_alive(name):
                self.known[name] = self.cluster.add_node(
                    num_cpus=1, num_gpus=1, labels={"name": name}, object_store_memory=80 << 20
                )

    def kill(self, name: str) -> None:
        """SIGKILL all processes of a node."""
        self.cluster.remove_node(self.known.pop(name), allow_graceful=False)

    def give_notice(self, name: str) -> None:
        """Drain a node, as a cloud does half a minute before it takes a spot machine away."""
        from ray._raylet import GcsClient
        from ray.core.generated import autoscaler_pb2

        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline_ms = int((time.time() + 120) * 1000)
        client = GcsClient(address=self.cluster.address)
        accepted, why = client.drain_node(self.known[name].node_id, reason, "spot notice", deadline_ms)
        assert accepted, why

    def is_alive(self, name: str) -> bool:
        import ray

        return any(node["Alive"] and node["Labels"].get("name") == name for node in ray.nodes())


_nodes: Nodes


def _start(folder: str) -> None:
    global _nodes
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray._private import utils
    from ray.cluster_utils import Cluster

    wait_for_slow_nodes()
    utils.write_ray_address = lambda *_, **__: (
        None
    )  # Otherwise every `ray.init()` on this machine would find this cluster.
    head = {
        "num_cpus": 0,
        "temp_dir": folder,
        "include_dashboard": False,
        "object_store_memory": 80 << 20,
        "dashboard_agent_listen_port": 0,
        "_system_config": QUICK_HEALTH_CHECKS,
    }
    _nodes = Nodes(Cluster(initialize_head=True, head_node_args=head))
    ray.init(_nodes.cluster.address, log_to_driver=False, logging_level="error")


def _stop() -> None:
    import ray

    ray.shutdown()
    _nodes.cluster.shutdown()


def _call(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    return function(_nodes, *args, **kwargs)


@dataclass(frozen=True)
class SeveralNodes:
    """The cluster, as a client in the test process."""

    process: ProcessPoolExecutor

    def call(self, function: Callable[Concatenate[Nodes, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function of a module in the process that is connected to the cluster, and return its result."""
        return self.process.submit(_call, function, *args, **kwargs).result(TIMEOUT_S)


@contextmanager
def several_nodes() -> Iterator[SeveralNodes]:
    """Start a cluster whose head has no CPU, without other nodes."""
    folder = tempfile.mkdtemp(prefix="ray-")  # A short path: those of Ray's sockets are limited to 107 bytes.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        try:
            process.submit(_start, folder).result(TIMEOUT_S)
            try:
                yield SeveralNodes(process)
            finally:
                process.submit(_stop).result(TIMEOUT_S)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
