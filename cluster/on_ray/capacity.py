"""What the nodes of a cluster have, for deciding how many workers to ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.on_ray.session import RaySession


@dataclass(frozen=True, slots=True)
class Node:
    """A node that is alive.

    Attributes:
        cpus: logical CPUs in all, whoever uses them.
        gpus: GPUs in all.
        memory_bytes: memory that can be reserved.
        labels: Ray's and the operator's own.
    """

    cpus: float
    gpus: float
    memory_bytes: float = math.inf
    labels: Mapping[str, str] = field(default_factory=dict)

    def holds(self, *, cpus: float, gpus: float, memory_bytes: int | None = None) -> int:
        """How many workers of that shape fit, if nothing else ran there."""
        amounts = ((self.cpus, cpus), (self.gpus, gpus), (self.memory_bytes, memory_bytes or 0))
        return min((math.floor(min(has / each, 1e9) + 1e-6) for has, each in amounts if each > 0), default=1)

    def meets(self, labels: Mapping[str, str]) -> bool:
        """Whether Ray would place what asks for these labels here: a value, `!value`, `in(a, b)` or `!in(a, b)`."""
        return all(_is_meant(self.labels.get(name), wanted) for name, wanted in labels.items())


def _is_meant(value: str | None, wanted: str) -> bool:
    positive = wanted.removeprefix("!")
    listed = positive.removeprefix("in(").removesuffix(")").split(",") if positive.startswith("in(") else [positive]
    return (value in [name.strip() for name in listed]) is (positive == wanted)


def cluster_nodes(address: str) -> tuple[Node, ...]:
    """Connect to a running Ray and look at its nodes; those that an autoscaler has not brought yet are not among them.

    Args:
        address: "auto", `host:port` or `ray://host:port`.

    Raises:
        ClusterError: no Ray answers there.
    """
    with RaySession(address):
        import ray

        alive = [(node["Resources"], node["Labels"]) for node in ray.nodes() if node["Alive"]]
    return tuple(
        Node(has.get("CPU", 0.0), has.get("GPU", 0.0), has.get("memory", 0.0), dict(labels)) for has, labels in alive
    )
