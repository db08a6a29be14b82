"""Which nodes of a Ray cluster are about to leave, and which are gone."""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

_KNOCK_S = 1.0
_AT_A_TIME = 32


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
    """Nodes where nobody listens. Takes a second or two, however many nodes there are and do not answer.

    Args:
        ports: address and port by node.
        asked: which nodes are looked at.

    Returns:
        none where no other node answers either: then it is this process that reaches nobody, as over `ray://`.
    """
    silent = _silent({name: ports[name] for name in asked if name in ports})
    if not silent:
        return silent
    witnesses = dict(islice(((name, port) for name, port in ports.items() if name not in silent), _AT_A_TIME))
    return silent if len(_silent(witnesses)) < len(witnesses) else frozenset()


def _silent(ports: Mapping[str, tuple[str, int]]) -> frozenset[str]:
    """Those where nobody listens; a machine that is gone or behind a firewall takes all of `_KNOCK_S` to tell."""
    with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="knock") as threads:
        silences = threads.map(lambda port: is_deserted(*port), ports.values())
        return frozenset(name for name, is_silent in zip(ports, silences, strict=True) if is_silent)


def is_deserted(address: str, port: int) -> bool:
    """Whether nobody listens there. A process that is only busy or stopped still does: its kernel answers for it."""
    try:
        socket.create_connection((address, port), timeout=_KNOCK_S).close()
    except OSError:
        return True
    return False
