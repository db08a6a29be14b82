"""What all tests share: the one Ray and the one S3 server of the suite."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings

from ray_jobs.console import waiting
from tests.s3.bucket import Bucket
from tests.s3.server import CREDENTIALS, S3Server, missing_programs, start_server
from tests.slow_start import wait_for_slow_nodes

# Before torch is loaded: on small tensors, threads that wait for each other cost more than they do.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test reaches any storage but that of this machine: these are the credentials of the tests' own S3 server.
os.environ.update(CREDENTIALS)

# Who starts tests in the background may have them ignore interrupts; some tests are about interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# However busy the machine is, commands that tests run in this process announce no waits; some tests are about these.
waiting.AFTER_S = 3600.0

# A loaded machine is not a failing test, and CI looks at the same examples each time.
settings.register_profile(
    "here",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("here")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let two processes share the suite: one file is one piece, and so is everything that needs Ray or the S3 server.

    There is one Ray and one S3 server, then, and what a file prepares for its tests is prepared once.
    """
    for item in items:
        on_a_cluster = any(item.get_closest_marker(name) for name in ("ray", "s3"))
        item.add_marker(pytest.mark.xdist_group("cluster" if on_a_cluster else item.nodeid.partition("::")[0]))


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A Ray of 4 logical CPUs. Starting one takes 10 s, so there is one for all tests marked `ray`."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    wait_for_slow_nodes()
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=128 * 2**20)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server on loopback, the one for all tests marked `s3`; `make test-s3` installs what it takes."""
    if missing := missing_programs():
        pytest.skip(f"no S3 server is installed (no {', '.join(missing)}); `make test-s3` installs one")
    with start_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(s3_server: S3Server) -> Bucket:
    """An empty bucket of its own."""
    return Bucket.create(s3_server, f"test-{uuid4().hex}")
