"""Find the nodes of a Ray cluster that are draining, and those that are dead."""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

_PROBE_TIMEOUT_S = 1.0
_MAX_PROBES = 32


def draining_nodes() -> frozenset[str]:
    """Return the nodes that have notice to leave: Ray places nothing there, and they may disappear at any time.

    Ray has no public API for this. Where its private one is missing, as over `ray://`, no notice is seen in advance.
    """
    from ray.exceptions import RayError

    try:
        from ray._private.state import state

        return frozenset(state.get_draining_nodes())
    except (ImportError, AttributeError, RuntimeError, RayError):
        return frozenset()


def dead_nodes(suspects: Collection[str] = ()) -> frozenset[str]:
    """Return the nodes that the cluster has given up, and the suspects among the others whose port is closed.

    The cluster itself notices a crash after some seconds, by default about fifteen.
    """
    import ray

    nodes = {node["NodeID"]: node for node in ray.nodes()}
    ports = {name: (n["NodeManagerAddress"], n["NodeManagerPort"]) for name, n in nodes.items() if n["Alive"]}
    return frozenset(nodes.keys() - ports.keys()) | unreachable_nodes(ports, suspects)


def unreachable_nodes(ports: Mapping[str, tuple[str, int]], suspects: Collection[str]) -> frozenset[str]:
    """Return the suspects whose port is closed. Takes a second or two, whatever the number of unreachable nodes.

    Args:
        ports: address and port of each node.
        suspects: nodes to probe.

    Returns:
        Those suspects, or an empty set where no other node can be reached either: then the network of this process is
        the reason, as over `ray://`.
    """
    closed = _closed({name: ports[name] for name in suspects if name in ports})
    if not closed:
        return closed
    others = dict(islice(((name, port) for name, port in ports.items() if name not in closed), _MAX_PROBES))
    return closed if len(_closed(others)) < len(others) else frozenset()


def _closed(ports: Mapping[str, tuple[str, int]]) -> frozenset[str]:
    """Return the nodes whose port is closed. A dead machine or a firewall takes the whole of `_PROBE_TIMEOUT_S`."""
    with ThreadPoolExecutor(_MAX_PROBES, thread_name_prefix="probe") as threads:
        results = threads.map(lambda port: is_port_closed(*port), ports.values())
        return frozenset(name for name, is_closed in zip(ports, results, strict=True) if is_closed)


def is_port_closed(address: str, port: int) -> bool:
    """Return whether no process listens there. For a busy or suspended process, its kernel accepts the connection."""
    try:
        socket.create_connection((address, port), timeout=_PROBE_TIMEOUT_S).close()
    except OSError:
        return True
    return False
