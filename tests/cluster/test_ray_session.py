from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

OWN_RAY = """
import signal
import sys
from pathlib import Path
from cluster import Ledger, RayExecutor, Store, WorkerStartError, Workers, run_stage
from tests.cluster.steps import Square, units
signal.signal(signal.SIGTERM, signal.default_int_handler)
with RayExecutor(num_cpus=1) as executor:
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
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
def test_a_ray_of_our_own_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"HOME": str(tmp_path), "TMPDIR": "/tmp", "PYTHONPATH": os.pathsep.join(sys.path)}
    before = set(Path("/tmp").glob("ray-*"))
    run = subprocess.run(
        [sys.executable, "-c", OWN_RAY], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("3\nno worker fits on this machine. A worker was asked for with 2 CPU")
    assert len(list((tmp_path / "store/out").iterdir())) == 3
    assert set(Path("/tmp").glob("ray-*")) <= before
    assert not (tmp_path / ".ray").exists()


@pytest.mark.ray
def test_nobody_at_the_address_is_said_at_once() -> None:
    program = "from cluster import RayExecutor; RayExecutor('127.0.0.1:1').__enter__()"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "ClusterError: could not connect to Ray at '127.0.0.1:1'" in run.stderr
    assert "RAY_AUTH_MODE" in run.stderr
