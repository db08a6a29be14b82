"""Chaos rounds: a job, faults while it runs, and a comparison of its results."""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster import Store
from tests.chaos.driver import Driver
from tests.chaos.faults import CLUSTER, DISK, S3, STORMS, Fault, name_of
from tests.chaos.rig import Rig
from tests.chaos.scenarios import Scenario
from tests.ray_jobs.place import wait_until

FAULTS_PER_JOB = 10
GAP_S = (0.5, 5.0)
JOB_TIMEOUT_S = 900.0
"""Seconds within which a job must finish after its last fault."""

Results = dict[str, str]
"""SHA-256 of each result, by its path."""


class ChaosError(AssertionError):
    """A job did not finish."""


@dataclass
class Chaos:
    """The state of a chaos run.

    Attributes:
        rig: the targets of faults.
        rng: source of all random choices.
        faults_per_job: number of faults after which a job runs undisturbed.
        gap_s: bounds of the time between faults, in seconds.
        survived: number of faults by name.
        rounds: outcome of each job.
    """

    rig: Rig
    rng: random.Random
    faults_per_job: int
    gap_s: tuple[float, float]
    survived: Counter[str] = field(default_factory=Counter)
    rounds: list[dict[str, Any]] = field(default_factory=list)

    def run(self, scenario: Scenario, expected: Results) -> None:
        """Run one job, from its first start to the comparison."""
        started = time.monotonic()
        on_disk = self.rig.disk is not None and self.rng.random() < 0.3
        faults: Counter[str] = Counter()
        for attempt in itertools.count():  # A job that finished before its first fault shows nothing.
            name = f"{len(self.rounds)}-{attempt}-{scenario.name.replace(' ', '-')}"
            store, settings = self.rig.output(name, on_disk=on_disk)
            driver = self.rig.driver_of(scenario, name)
            faults = self._run_with_faults(driver, settings, DISK if on_disk else S3)
            if faults:
                break
        identical = scenario.hashes(store) == expected
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

    def _run_with_faults(self, driver: Driver, settings: dict[str, Any], others: dict[Fault, float]) -> Counter[str]:
        faults: Counter[str] = Counter()
        before, activity = self.rig.proxy.faults(), self.rig.activity()
        undisturbed_since = None
        while not (driver.is_over() and driver.codes and driver.codes[-1] == 0):
            if driver.process is None:
                self.rig.start(driver, settings)
            if not faults:  # A fault during the start of a job has little effect.
                wait_until(lambda: driver.is_over() or self.rig.activity() > activity)
            if sum(faults.values()) < self.faults_per_job:
                wait_until(driver.is_over, self.rng.uniform(*self.gap_s))
                if not driver.is_over() and (name := self._inject(CLUSTER | others)):
                    faults[name] += 1
                continue
            undisturbed_since = undisturbed_since or time.monotonic()
            wait_until(driver.is_over, 1.0)
            if time.monotonic() - undisturbed_since > JOB_TIMEOUT_S:
                raise ChaosError(
                    f"the job is not finished {JOB_TIMEOUT_S:.0f} s after the last fault:\n{driver.log_tail()}"
                )
        requests = self.rig.proxy.faults() - before
        self.survived += Counter({name: count for name, count in faults.items() if name not in STORMS.values()})
        self.survived += Counter({f"requests: {kind}": count for kind, count in requests.items()})
        return faults

    def _inject(self, weights: dict[Fault, float]) -> str:
        """Inject a random fault, and return its name; "" if it had no target."""
        (fault,) = self.rng.choices(list(weights), list(weights.values()))
        return name_of(fault) if fault(self.rig, self.rng) else ""


def chaos(
    rig: Rig,
    expected: Mapping[Scenario, Results],
    *,
    minutes: float,
    seed: int,
    faults_per_job: int = FAULTS_PER_JOB,
    gap_s: tuple[float, float] = GAP_S,
) -> dict[str, Any]:
    """Run jobs under faults for a while, each of them at least once.

    Args:
        rig: the targets of faults.
        expected: the jobs, and their results without faults.
        minutes: no further job starts later than this.
        seed: of all random choices.
        faults_per_job: number of faults after which a job runs undisturbed, so that it can finish.
        gap_s: bounds of the time between faults, in seconds.

    Returns:
        `seed`, `jobs`, `identical` (jobs with the bytes of a run without faults), `faults` survived, `by_kind`, and
        `rounds`, the outcome of each job, which has had at least one fault.

    Raises:
        ChaosError: a job did not finish.
    """
    state = Chaos(rig, random.Random(seed), faults_per_job, gap_s)
    jobs = list(expected)
    end = time.monotonic() + 60 * minutes
    for number in itertools.count():
        if time.monotonic() >= end and number >= len(jobs):
            break
        scenario = jobs[number % len(jobs)]
        state.run(scenario, expected[scenario])
    return {
        "seed": seed,
        "jobs": len(state.rounds),
        "identical": sum(each["identical"] for each in state.rounds),
        "faults": sum(state.survived.values()),
        "by_kind": dict(sorted(state.survived.items())),
        "rounds": state.rounds,
    }


def run_undisturbed(jobs: Sequence[Scenario], folder: Path) -> dict[Scenario, Results]:
    """Run each job in one process with a local output, and return the results.

    Args:
        jobs: to run, concurrently.
        folder: for their logs.
    """
    stores = {scenario: Store(str(scenario.job.with_suffix(".undisturbed"))) for scenario in jobs}
    drivers = {
        scenario: Driver.from_scenario(scenario, folder / f"{scenario.job.stem}-undisturbed.log") for scenario in jobs
    }
    for scenario, driver in drivers.items():
        driver.start({"cluster.mode": "process", "job.output": stores[scenario].root})
    for scenario, driver in drivers.items():
        if (
            not wait_until(driver.is_over, JOB_TIMEOUT_S)
            or driver.codes != [0]
            or not scenario.is_complete(stores[scenario])
        ):
            driver.kill()
            raise ChaosError(f"{scenario.name} fails without faults:\n{driver.log_tail()}")
    return {scenario: scenario.hashes(stores[scenario]) for scenario in jobs}
