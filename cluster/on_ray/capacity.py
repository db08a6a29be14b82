"""Resources of a cluster's nodes, for choosing the number of workers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.on_ray.session import RaySession


@dataclass(frozen=True, slots=True)
class Node:
    """A live node.

    Attributes:
        cpus: logical CPUs in total, used or not.
        gpus: GPUs in total.
        memory_bytes: memory that workers can reserve.
        labels: those of Ray and of the operator.
    """

    cpus: float
    gpus: float
    memory_bytes: float = math.inf
    labels: Mapping[str, str] = field(default_factory=dict)

    def capacity_for(self, *, cpus: float, gpus: float, memory_bytes: int | None = None) -> int:
        """Return how many workers with these resources fit on the node when nothing else runs there."""
        amounts = ((self.cpus, cpus), (self.gpus, gpus), (self.memory_bytes, memory_bytes or 0))
        return min((math.floor(min(total / each, 1e9) + 1e-6) for total, each in amounts if each > 0), default=1)

    def matches_labels(self, selector: Mapping[str, str]) -> bool:
        """Return whether Ray would place a worker with this label selector here.

        Args:
            selector: condition for each label: a value, `!value`, `in(a, b)` or `!in(a, b)`.
        """
        return all(_matches(self.labels.get(name), condition) for name, condition in selector.items())


def _matches(value: str | None, condition: str) -> bool:
    positive = condition.removeprefix("!")
    listed = positive.removeprefix("in(").removesuffix(")").split(",") if positive.startswith("in(") else [positive]
    return (value in [name.strip() for name in listed]) is (positive == condition)


def cluster_nodes(address: str) -> tuple[Node, ...]:
    """Connect to a running Ray and return its live nodes, without those that an autoscaler may still add.

    Args:
        address: "auto", `host:port` or `ray://host:port`.

    Raises:
        ClusterError: no Ray responds at the address.
    """
    with RaySession(address):
        import ray

        alive = [(node["Resources"], node["Labels"]) for node in ray.nodes() if node["Alive"]]
    return tuple(
        Node(total.get("CPU", 0.0), total.get("GPU", 0.0), total.get("memory", 0.0), dict(labels))
        for total, labels in alive
    )
