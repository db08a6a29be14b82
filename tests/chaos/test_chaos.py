"""A short chaos run (`make chaos` is the long one), and the cost of a lost head."""

from __future__ import annotations

import itertools
import threading
from collections import Counter

import pytest

from tests.chaos.rig import rig_in
from tests.chaos.run import chaos, run_undisturbed
from tests.chaos.scenarios import scenarios
from tests.ray_jobs.place import wait_until

pytestmark = [pytest.mark.s3, pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]
TIMEOUT_S = 600.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("chaos")


@pytest.fixture(scope="module")
def expected(folder):
    return run_undisturbed(scenarios(folder / "jobs"), folder)


@pytest.fixture(scope="module")
def rig(s3_server, expected, folder):
    with rig_in(folder, s3_server, names=("one", "two"), fault_s=(0.5, 2.0)) as rig:
        yield rig


def test_jobs_with_faults_have_the_bytes_of_undisturbed_runs(rig, expected):
    result = chaos(rig, expected, minutes=0, seed=20260, faults_per_job=3, gap_s=(0.2, 2.0))
    assert result["jobs"] == len(expected) == 4
    assert result["identical"] == 4, result["rounds"]
    assert all(sum(each["faults"].values()) >= 1 for each in result["rounds"])


class Gate:
    """A plan of a proxy: after some parts of features, further writes wait until the gate opens, and then fail."""

    def __init__(self, parts: int) -> None:
        self.parts, self.number, self.opened = parts, itertools.count(1), threading.Event()

    def fault(self, method, path, attempt):
        if method == "PUT" and "/features/" in path and not self.opened.is_set() and next(self.number) > self.parts:
            self.opened.wait(TIMEOUT_S)
            return "reset_before"
        return None


def test_a_lost_head_costs_no_committed_part(rig, expected):
    scenario = next(iter(expected))
    store, settings = rig.output("head", on_disk=False)
    driver = rig.driver_of(scenario, "head")
    rig.proxy.clear()
    rig.proxy.plan = gate = Gate(8)

    def embedded():
        return Counter(
            request.key
            for request in list(rig.proxy.requests)
            if request.kind == "PUT" and "/features/" in request.key and request.status == 200
        )

    rig.start(driver, settings)
    assert wait_until(lambda: embedded().total() == 8 or driver.is_over(), TIMEOUT_S)
    committed = embedded()
    assert committed.total() == 8, driver.log_tail()
    driver.kill()
    rig.replace_cluster()
    gate.opened.set()
    assert wait_until(driver.is_over)
    rig.start(driver, settings)
    assert wait_until(driver.is_over, TIMEOUT_S)
    assert driver.codes[-1] == 0, driver.log_tail()
    assert scenario.hashes(store) == expected[scenario]
    writes = embedded()
    assert len(writes) > len(committed)  # Some parts were missing.
    assert all(writes[key] == count for key, count in committed.items())
