"""Counters of units and of losses reach the endpoint that Prometheus reads."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator

import pytest
import ray

from cluster import Ledger, RayExecutor, Store, Workers, run_stage
from cluster.on_ray.metrics import count_loss, exported_name
from tests.cluster.steps import Square, units

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


def scraped() -> str:
    """What the nodes of Ray export now."""
    pages = []
    for node in ray.nodes():
        with urllib.request.urlopen(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics") as page:
            pages.append(page.read().decode())
    return "\n".join(pages)


def value_of(name: str) -> float:
    return sum(float(number) for number in re.findall(rf"^{name}\{{[^}}]*}} (\S+)", scraped(), re.MULTILINE))


def waits_for(name: str, value: float, timeout_s: float = 60.0) -> bool:
    """Whether a counter has a value soon: workers report every few seconds."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if value_of(name) >= value:
            return True
        time.sleep(0.5)
    return False


@pytest.fixture
def executor() -> Iterator[RayExecutor]:
    with RayExecutor() as executor:
        yield executor


def test_units_and_losses_are_exported(executor, tmp_path):
    name = exported_name("units_done")
    before, lost = value_of(name), value_of(exported_name("units_retried"))
    run_stage(executor, Square(tmp_path), units(7), Ledger(Store(str(tmp_path / "out"))), Workers(count=2))
    count_loss(Square(tmp_path), 3)
    assert waits_for(name, before + 7)
    assert waits_for(exported_name("units_retried"), lost + 3)
    assert 'step="Square"' in scraped()
