"""What the nodes of a cluster have, for deciding how many workers to ask for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cluster.ray_session import RaySession


@dataclass(frozen=True, slots=True)
class Node:
    """A node that is alive.

    Attributes:
        cpus: logical CPUs in all, whoever uses them.
        gpus: GPUs in all.
    """

    cpus: float
    gpus: float

    def holds(self, *, cpus: float, gpus: float) -> int:
        """How many workers of that shape fit, if nothing else ran there."""
        fitting = [math.floor(has / each + 1e-6) for has, each in ((self.cpus, cpus), (self.gpus, gpus)) if each > 0]
        return min(fitting, default=1)


def cluster_nodes(address: str) -> tuple[Node, ...]:
    """Connect to a running Ray and look at its nodes; those that an autoscaler has not brought yet are not among them.

    Args:
        address: "auto", `host:port` or `ray://host:port`.

    Raises:
        ClusterError: no Ray answers there.
    """
    with RaySession(address):
        import ray

        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return tuple(Node(resources.get("CPU", 0.0), resources.get("GPU", 0.0)) for resources in alive)
