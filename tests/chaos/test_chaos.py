"""A short storm in the suite (`make chaos` is the long one), and what a lost head costs."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.chaos.rig import rig_in
from tests.chaos.run import chaos, undisturbed
from tests.chaos.scenarios import scenarios
from tests.ray_jobs.place import wait_until

pytestmark = [pytest.mark.s3, pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def rig(s3_server, tmp_path_factory):
    with rig_in(tmp_path_factory.mktemp("chaos"), s3_server) as rig:
        yield rig


def test_jobs_under_faults_end_with_the_bytes_of_an_undisturbed_run(rig):
    result = chaos(rig, minutes=0, seed=20260, faults_a_job=4)
    assert result["jobs"] == 3
    assert result["identical"] == 3, result["rounds"]
    assert result["faults"] >= 3  # How many there are before a job is through is not in our hands.


def test_when_the_head_is_lost_nothing_that_was_committed_is_done_again(rig):
    scenario = scenarios(rig.folder / "head")[0]
    expected = undisturbed(scenario, rig)
    store, settings = rig.output(scenario, 100, on_disk=False)
    driver = rig.driver_of(scenario, "head")
    rig.proxy.clear()

    def embedded():
        return Counter(
            request.key
            for request in list(rig.proxy.requests)
            if request.kind == "PUT" and "/features/" in request.key and request.status == 200
        )

    rig.start(driver, settings)
    assert wait_until(lambda: len(embedded()) >= 8), driver.told()
    driver.kill()
    rig.lose_cluster()
    committed = embedded()
    assert wait_until(driver.is_over)
    rig.start(driver, settings)
    assert wait_until(driver.is_over, timeout_s=300)
    assert driver.codes[-1] == 0, driver.told()
    assert scenario.bytes_of(store) == expected
    writes = embedded()
    assert len(writes) > len(committed)  # Something was left to do.
    assert all(writes[key] == count for key, count in committed.items())
