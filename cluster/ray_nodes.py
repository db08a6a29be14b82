"""Which nodes of a Ray cluster are about to leave, and which are gone."""

from __future__ import annotations


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


def dead() -> frozenset[str]:
    """Nodes that the cluster has given up. It notices a crash after some seconds, by default about fifteen."""
    import ray

    return frozenset(node["NodeID"] for node in ray.nodes() if not node["Alive"])
