"""Rounds of chaos: a job, faults while it runs, and a comparison at its end."""

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

FAULTS_A_JOB = 10
GAP_S = (0.5, 5.0)
JOB_S = 900.0
"""Seconds within which a job must be through once it is left alone."""

Results = dict[str, str]
"""A hash of each result, by its path."""


class ChaosError(AssertionError):
    """A job did not come to its end."""


@dataclass
class Chaos:
    """What has happened so far.

    Attributes:
        rig: what is broken.
        chance: what decides.
        faults_a_job: after so many a job is left alone.
        gap_s: bounds of the time between faults.
        survived: faults by name.
        rounds: what became of each job.
    """

    rig: Rig
    chance: random.Random
    faults_a_job: int
    gap_s: tuple[float, float]
    survived: Counter[str] = field(default_factory=Counter)
    rounds: list[dict[str, Any]] = field(default_factory=list)

    def run(self, scenario: Scenario, expected: Results) -> None:
        """One job, from its first start to the comparison."""
        started = time.monotonic()
        on_disk = self.rig.disk is not None and self.chance.random() < 0.3
        faults: Counter[str] = Counter()
        for attempt in itertools.count():  # One that was through before anything broke says nothing.
            name = f"{len(self.rounds)}-{attempt}-{scenario.name.replace(' ', '-')}"
            store, settings = self.rig.output(name, on_disk=on_disk)
            driver = self.rig.driver_of(scenario, name)
            faults = self._break_until_through(driver, settings, DISK if on_disk else S3)
            if faults:
                break
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
        before, signs = self.rig.proxy.faults(), self.rig.signs()
        calm_since = None
        while not (driver.is_over() and driver.codes and driver.codes[-1] == 0):
            if driver.process is None:
                self.rig.start(driver, settings)
            if not faults:  # A job that is still being started would hardly notice.
                wait_until(lambda: driver.is_over() or self.rig.signs() > signs)
            if sum(faults.values()) < self.faults_a_job:
                wait_until(driver.is_over, self.chance.uniform(*self.gap_s))
                if not driver.is_over() and (broken := self._break_one(CLUSTER | others)):
                    faults[broken] += 1
                continue
            calm_since = calm_since or time.monotonic()
            wait_until(driver.is_over, 1.0)
            if time.monotonic() - calm_since > JOB_S:
                raise ChaosError(f"not through {JOB_S:.0f} s after the last fault:\n{driver.messages()}")
        requests = self.rig.proxy.faults() - before
        self.survived += Counter({name: count for name, count in faults.items() if name not in STORMS.values()})
        self.survived += Counter({f"requests: {kind}": count for kind, count in requests.items()})
        return faults

    def _break_one(self, choice: dict[Fault, float]) -> str:
        """The name of what was broken; "" if there was nothing to break."""
        (fault,) = self.chance.choices(list(choice), list(choice.values()))
        return name_of(fault) if fault(self.rig, self.chance) else ""


def chaos(
    rig: Rig,
    expected: Mapping[Scenario, Results],
    *,
    minutes: float,
    seed: int,
    faults_a_job: int = FAULTS_A_JOB,
    gap_s: tuple[float, float] = GAP_S,
) -> dict[str, Any]:
    """Run jobs under faults for a while, each of them at least once.

    Args:
        rig: what is broken.
        expected: the jobs, and their results when nothing breaks.
        minutes: no further job begins later than this.
        seed: of everything that is drawn.
        faults_a_job: after so many a job is left alone, so that there is an end.
        gap_s: bounds of the time between faults.

    Returns:
        `seed`, `jobs`, `identical` (jobs with the bytes of an undisturbed run), `faults` survived, `by_kind`, and
        `rounds`, what became of each job: at least one thing broke while it ran.

    Raises:
        ChaosError: a job did not come to its end.
    """
    work = Chaos(rig, random.Random(seed), faults_a_job, gap_s)
    todo = list(expected)
    end = time.monotonic() + 60 * minutes
    for number in itertools.count():
        if time.monotonic() >= end and number >= len(todo):
            break
        scenario = todo[number % len(todo)]
        work.run(scenario, expected[scenario])
    return {
        "seed": seed,
        "jobs": len(work.rounds),
        "identical": sum(each["identical"] for each in work.rounds),
        "faults": sum(work.survived.values()),
        "by_kind": dict(sorted(work.survived.items())),
        "rounds": work.rounds,
    }


def undisturbed(todo: Sequence[Scenario], folder: Path) -> dict[Scenario, Results]:
    """The results of runs in one process each, in local folders.

    Args:
        todo: the jobs; all are run at once.
        folder: where they log.
    """
    stores = {scenario: Store(str(scenario.job.with_suffix(".undisturbed"))) for scenario in todo}
    drivers = {scenario: Driver.of(scenario, folder / f"{scenario.job.stem}-undisturbed.log") for scenario in todo}
    for scenario, driver in drivers.items():
        driver.start({"cluster.mode": "process", "job.output": stores[scenario].root})
    for scenario, driver in drivers.items():
        if not wait_until(driver.is_over, JOB_S) or driver.codes != [0] or not scenario.is_complete(stores[scenario]):
            driver.kill()
            raise ChaosError(f"{scenario.name} fails without any fault:\n{driver.messages()}")
    return {scenario: scenario.bytes_of(stores[scenario]) for scenario in todo}
