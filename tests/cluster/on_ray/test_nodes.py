"""Whether a node is still there shows at its port before the cluster knows."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from cluster.on_ray.nodes import _AT_A_TIME, deserted, is_deserted

LISTENER = """
import socket, time
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
time.sleep(600)
"""


def test_a_process_that_is_stopped_still_listens_and_one_that_was_killed_does_not() -> None:
    with subprocess.Popen([sys.executable, "-c", LISTENER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert not is_deserted("127.0.0.1", port)
        os.kill(process.pid, signal.SIGSTOP)
        assert not is_deserted("127.0.0.1", port)
        process.kill()
    assert is_deserted("127.0.0.1", port)


def test_nobody_listens_at_a_port_that_nobody_has() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        assert is_deserted("127.0.0.1", held.getsockname()[1])


def test_a_node_is_deserted_only_if_another_one_answers() -> None:
    with socket.socket() as held, socket.create_server(("127.0.0.1", 0)) as server:
        held.bind(("127.0.0.1", 0))
        silent, alive = held.getsockname(), server.getsockname()
        assert deserted({"a": silent, "b": alive}, {"a", "b", "gone"}) == {"a"}
        assert deserted({"a": silent, "b": alive}, {"b"}) == frozenset()
        assert deserted({"a": silent, "b": silent}, {"a"}) == frozenset()
        assert deserted({"a": silent}, {"a"}) == frozenset()


def test_nodes_that_all_take_long_to_refuse_are_asked_at_once_and_not_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, witnesses = threading.Barrier(3, timeout=60), threading.Barrier(_AT_A_TIME, timeout=60)
    knocks: list[str] = []

    def nobody(address: str, _: int) -> bool:
        knocks.append(address)
        (asked if address in "789" else witnesses).wait()
        return True

    monkeypatch.setattr("cluster.on_ray.nodes.is_deserted", nobody)
    ports = {str(name): (str(name), 1) for name in range(1000)}
    assert deserted(ports, {"7", "8", "9"}) == frozenset()
    assert len(knocks) == 3 + _AT_A_TIME
