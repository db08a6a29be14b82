"""Rounds of chaos: a job, faults while it runs, and a comparison at its end."""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from cluster import Store
from tests.chaos.driver import Driver
from tests.chaos.faults import CLUSTER, DISK, S3, STORMS, Fault, name_of
from tests.chaos.rig import Rig
from tests.chaos.scenarios import Scenario, scenarios
from tests.ray_jobs.place import wait_until

FAULTS_A_JOB = 10
GAP_S = (0.5, 5.0)
JOB_S = 900.0
"""Seconds within which a job must be through once it is left alone."""


class ChaosError(AssertionError):
    """A job did not come to its end."""


@dataclass
class Chaos:
    """What has happened so far.

    Attributes:
        rig: what is broken.
        chance: what decides.
        faults_a_job: after so many a job is left alone.
        survived: faults by name.
        rounds: what became of each job.
    """

    rig: Rig
    chance: random.Random
    faults_a_job: int
    survived: Counter[str] = field(default_factory=Counter)
    rounds: list[dict[str, Any]] = field(default_factory=list)

    def run(self, scenario: Scenario, expected: dict[str, str]) -> None:
        """One job, from its first start to the comparison."""
        on_disk = self.rig.disk is not None and self.chance.random() < 0.3
        store, settings = self.rig.output(scenario, len(self.rounds), on_disk=on_disk)
        driver = self.rig.driver_of(scenario, f"{len(self.rounds)}-{scenario.name.replace(' ', '-')}")
        self.rig.driver, started = driver, time.monotonic()
        faults = self._break_until_through(driver, settings, DISK if on_disk else S3)
        identical = scenario.bytes_of(store) == expected
        self.rounds.append(
            {
                "job": scenario.name,
                "on": "disk" if on_disk else "S3",
                "starts": len(driver.codes),
                "faults": dict(faults),
                "seconds": round(time.monotonic() - started),
                "identical": identical,
            }
        )
        sys.stderr.write(f"{self.rounds[-1]}\n")

    def _break_until_through(
        self, driver: Driver, settings: dict[str, Any], others: dict[Fault, float]
    ) -> Counter[str]:
        faults: Counter[str] = Counter()
        before = self.rig.proxy.faults()
        calm_since = None
        while not (driver.is_over() and driver.codes and driver.codes[-1] == 0):
            if driver.process is None:
                self.rig.start(driver, settings)
            if sum(faults.values()) < self.faults_a_job:
                wait_until(driver.is_over, self.chance.uniform(*GAP_S))
                if not driver.is_over():
                    faults[self._break_one(CLUSTER | others)] += 1
                faults.pop("", None)
                continue
            calm_since = calm_since or time.monotonic()
            wait_until(driver.is_over, 1.0)
            if time.monotonic() - calm_since > JOB_S:
                raise ChaosError(f"not through {JOB_S:.0f} s after the last fault:\n{driver.told()}")
        requests = self.rig.proxy.faults() - before
        self.survived += Counter({name: count for name, count in faults.items() if name not in STORMS.values()})
        self.survived += Counter({f"requests: {kind}": count for kind, count in requests.items()})
        return faults

    def _break_one(self, choice: dict[Fault, float]) -> str:
        """The name of what was broken; "" if there was nothing to break."""
        (fault,) = self.chance.choices(list(choice), list(choice.values()))
        return name_of(fault) if fault(self.rig, self.chance) else ""


def chaos(rig: Rig, *, minutes: float, seed: int, faults_a_job: int = FAULTS_A_JOB) -> dict[str, Any]:
    """Run jobs under faults for a while, each of them at least once.

    Args:
        rig: what is broken.
        minutes: no further job begins later than this.
        seed: of everything that is drawn.
        faults_a_job: after so many a job is left alone, so that there is an end.

    Returns:
        `seed`, `jobs`, `identical` (jobs with the bytes of an undisturbed run), `faults` survived, `by_kind`, and
        `rounds`, what became of each job.

    Raises:
        ChaosError: a job did not come to its end.
    """
    work = Chaos(rig, random.Random(seed), faults_a_job)
    todo = scenarios(rig.folder / f"jobs-{seed}")
    expected = {scenario.name: undisturbed(scenario, rig) for scenario in todo}
    end = time.monotonic() + 60 * minutes
    for number in itertools.count():
        if time.monotonic() >= end and number >= len(todo):
            break
        scenario = todo[number % len(todo)]
        work.run(scenario, expected[scenario.name])
    return {
        "seed": seed,
        "jobs": len(work.rounds),
        "identical": sum(each["identical"] for each in work.rounds),
        "faults": sum(work.survived.values()),
        "by_kind": dict(sorted(work.survived.items())),
        "rounds": work.rounds,
    }


def undisturbed(scenario: Scenario, rig: Rig) -> dict[str, str]:
    """The results of a run in one process, in a local folder."""
    store = Store(str(scenario.job.with_suffix(".undisturbed")))
    driver = rig.driver_of(scenario, "undisturbed")
    driver.start({"cluster.mode": "process", "job.output": store.root})
    assert driver.process is not None
    if driver.process.wait() != 0 or not scenario.is_complete(store):
        raise ChaosError(f"{scenario.name} fails without any fault:\n{driver.told()}")
    return scenario.bytes_of(store)
