"""What all tests share: the one Ray of the suite."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Before torch is loaded: on small tensors, threads that wait for each other cost more than they do.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A loaded machine is not a failing test, and CI looks at the same examples each time.
settings.register_profile("here", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("here")


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A Ray of 4 logical CPUs. Starting one takes 10 s, so there is one for all tests marked `ray`."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=128 * 2**20)
    yield
    ray.shutdown()
