"""Which nodes of a Ray cluster are about to leave, and which are gone."""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping

_KNOCK_S = 1.0


def draining() -> frozenset[str]:
    """Nodes that were told to leave: Ray places nothing on them any more, and they may be gone at any time.

    Ray has no public way to ask. Where this one is missing, as over `ray://`, no notice is seen in advance.
    """
    from ray.exceptions import RayError

    try:
        from ray._private.state import state

        return frozenset(state.get_draining_nodes())
    except (ImportError, AttributeError, RuntimeError, RayError):
        return frozenset()


def dead(asked: Collection[str] = ()) -> frozenset[str]:
    """Nodes that the cluster has given up, and those among `asked` where nobody listens any more.

    The cluster notices a crash after some seconds, by default about fifteen.
    """
    import ray

    nodes = {node["NodeID"]: node for node in ray.nodes()}
    ports = {name: (n["NodeManagerAddress"], n["NodeManagerPort"]) for name, n in nodes.items() if n["Alive"]}
    return frozenset(nodes.keys() - ports.keys()) | deserted(ports, asked)


def deserted(ports: Mapping[str, tuple[str, int]], asked: Collection[str]) -> frozenset[str]:
    """Nodes where nobody listens.

    Args:
        ports: address and port by node.
        asked: which nodes are looked at.

    Returns:
        none where no other node answers either: then it is this process that reaches nobody, as over `ray://`.
    """
    silent = frozenset(name for name in asked if name in ports and is_deserted(*ports[name]))
    others = (port for name, port in ports.items() if name not in silent)
    return silent if silent and not all(is_deserted(*port) for port in others) else frozenset()


def is_deserted(address: str, port: int) -> bool:
    """Whether nobody listens there. A process that is only busy or stopped still does: its kernel answers for it."""
    try:
        socket.create_connection((address, port), timeout=_KNOCK_S).close()
    except OSError:
        return True
    return False
