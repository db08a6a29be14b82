from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from cluster import ClusterError, RayExecutor
from cluster.on_ray.session import preserved_sigterm_handler

OWN_RAY = """
import signal
import sys
import tempfile
from pathlib import Path
import psutil
from cluster import Ledger, RayExecutor, Store, WorkerStartError, Workers, run_stage
from tests.cluster.steps import Square, units
signal.signal(signal.SIGTERM, signal.default_int_handler)
with RayExecutor(num_cpus=1) as executor:
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    (folder,) = Path(tempfile.gettempdir()).glob("ray-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    sockets = [each for process in processes for each in process.net_connections("tcp")]
    listening = {each.laddr.ip.removeprefix("::ffff:") for each in sockets if each.status == "LISTEN"}
    assert listening == {"127.0.0.1"}, listening
    ledger = Ledger(Store("store"))
    print(run_stage(executor, Square(Path("scratch").absolute()), units(3), ledger, Workers()).done)
    try:
        run_stage(executor, Square(Path("other")), units(1, folder="b"), ledger, Workers(cpus=2))
    except WorkerStartError as error:
        print(error)
"""


def test_importing_the_package_does_not_import_ray() -> None:
    program = "import sys, cluster; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.ray
@pytest.mark.slow
def test_a_local_ray_is_private_and_leaves_no_files(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with TemporaryDirectory(
        dir="/tmp", prefix=""
    ) as folder:  # A short path: those of sockets are limited to 107 bytes.
        environment |= {"HOME": str(tmp_path), "TMPDIR": folder, "PYTHONPATH": os.pathsep.join(sys.path)}
        run = subprocess.run(
            [sys.executable, "-c", OWN_RAY], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        left = list(Path(folder).iterdir())
    assert run.stdout.startswith("3\nno worker fits on this machine. Each worker needs 2 CPU")
    assert len(list((tmp_path / "store/out").iterdir())) == 3
    assert left == []
    assert not (tmp_path / ".ray").exists()


@pytest.mark.ray
def test_a_ray_that_does_not_start_is_a_cluster_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def too_late(*_: object, _temp_dir: str, **__: object) -> None:
        logs = Path(_temp_dir, "session_1/logs")
        logs.mkdir(parents=True)
        Path(_temp_dir, "session_latest").symlink_to("session_1")
        (logs / "raylet.out").write_text(
            "[2026-01-01 I 7 7] started\n" * 9 + "[2026-01-01 C 7 7] No space in /dev/shm\n"
        )
        (logs / "monitor.log").write_text("all is well\n")
        (logs / "agent.log").write_text(f"ValueError: failed with https://me:{'s3cret'}@host\n")
        raise Exception("The current node timed out during startup.")

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # Another test's Ray may be running, and stays.
    monkeypatch.setattr("ray.init", too_late)
    monkeypatch.setattr("cluster.on_ray.session._shut_down", lambda: None)
    message = r"could not start Ray on this machine: .* timed out .*mode = \"process\".*\n  Its logs end with:\n"
    with pytest.raises(ClusterError, match=message) as caught:
        RayExecutor().__enter__()
    lines = str(caught.value).splitlines()[2:]
    assert lines == [
        "  raylet.out: [2026-01-01 C 7 7] No space in /dev/shm",
        "  agent.log: ValueError: failed with https://host",
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.ray
def test_an_interrupt_while_ray_starts_leaves_nothing_running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    stopped = []
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", interrupt)
    monkeypatch.setattr("cluster.on_ray.session._shut_down", lambda: stopped.append(True))
    with pytest.raises(KeyboardInterrupt):
        RayExecutor().__enter__()
    assert stopped == [True]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.ray
def test_an_address_without_ray_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # Another test's Ray may be running.
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(ClusterError, match=f"could not connect to Ray at '{address}'.*RAY_AUTH_MODE"):
            RayExecutor(address).__enter__()


def install_handler_of_ray() -> None:
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))


def terminate_during_start() -> None:
    with preserved_sigterm_handler():
        install_handler_of_ray()
        signal.raise_signal(signal.SIGTERM)


@pytest.fixture
def interrupting() -> Iterator[Any]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGTERM, before)


def test_the_handler_of_the_program_is_restored(interrupting: Any) -> None:
    with preserved_sigterm_handler():
        install_handler_of_ray()
    assert signal.getsignal(signal.SIGTERM) is interrupting


def test_a_signal_during_the_start_of_ray_reaches_the_program(interrupting: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        terminate_during_start()
    assert signal.getsignal(signal.SIGTERM) is interrupting


def test_a_program_without_a_handler_keeps_that_of_ray(interrupting: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with pytest.raises(SystemExit):
        terminate_during_start()
    assert callable(signal.getsignal(signal.SIGTERM))
