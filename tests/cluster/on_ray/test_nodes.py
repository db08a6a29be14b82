"""A closed port shows that a node is dead before the cluster reports it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from cluster.on_ray.nodes import _MAX_PROBES, is_port_closed, unreachable_nodes

LISTENER = """
import socket, time
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
time.sleep(600)
"""


def test_the_port_of_a_suspended_process_is_open_until_it_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", LISTENER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert not is_port_closed("127.0.0.1", port)
        os.kill(process.pid, signal.SIGSTOP)
        assert not is_port_closed("127.0.0.1", port)
        process.kill()
    assert is_port_closed("127.0.0.1", port)


def test_a_port_without_a_listener_is_closed() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert is_port_closed("127.0.0.1", unused.getsockname()[1])


def test_a_node_is_unreachable_only_if_another_is_reachable() -> None:
    with socket.socket() as unused, socket.create_server(("127.0.0.1", 0)) as server:
        unused.bind(("127.0.0.1", 0))
        closed, alive = unused.getsockname(), server.getsockname()
        assert unreachable_nodes({"a": closed, "b": alive}, {"a", "b", "gone"}) == {"a"}
        assert unreachable_nodes({"a": closed, "b": alive}, {"b"}) == frozenset()
        assert unreachable_nodes({"a": closed, "b": closed}, {"a"}) == frozenset()
        assert unreachable_nodes({"a": closed}, {"a"}) == frozenset()


def test_nodes_are_probed_concurrently_and_in_limited_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    suspects, others = threading.Barrier(3, timeout=60), threading.Barrier(_MAX_PROBES, timeout=60)
    probed: list[str] = []

    def closed_port(address: str, _: int) -> bool:
        probed.append(address)
        (suspects if address in "789" else others).wait()
        return True

    monkeypatch.setattr("cluster.on_ray.nodes.is_port_closed", closed_port)
    ports = {str(name): (str(name), 1) for name in range(1000)}
    assert unreachable_nodes(ports, {"7", "8", "9"}) == frozenset()
    assert len(probed) == 3 + _MAX_PROBES
