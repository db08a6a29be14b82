"""Kill a job with SIGKILL before each of its storage calls, run it again, and compare the results.

The process kills itself, so that a point is the same call however busy the machine is: the n-th read, write, listing,
look-up or deletion that it makes, from the first check of the output to the last document.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cluster import Store
from tests.chaos.scenarios import Scenario
from tests.ray_jobs.place import fewshot, warm

PROCESSES = 2
"""Jobs that run at the same time, each started by a process of its own: exit codes get lost between threads."""


@dataclass(frozen=True, slots=True)
class Survival:
    """What a job did that was killed once.

    Attributes:
        point: number of the storage call before which it was killed, from 1.
        was_killed: whether it made so many calls.
        code: exit code of the run after it.
        identical: whether that run's results are those of an undisturbed one.
    """

    point: int
    was_killed: bool
    code: int | None
    identical: bool

    @property
    def is_unharmed(self) -> bool:
        """Whether the job was killed and its second run has the results of an undisturbed one."""
        return self.was_killed and self.code == 0 and self.identical


def storage_calls(scenario: Scenario, output: Path) -> list[str]:
    """Run a job to its end, and return the path of each of its storage calls; "" for those without one.

    Raises:
        AssertionError: the job fails.
    """
    counter = output.with_suffix(".calls")
    code = _run(scenario, output, counter=counter)
    assert code == 0, f"{scenario.name} ends with exit code {code} without being killed"
    return list(json.loads(counter.read_text()))


def spread(calls: int, points: int) -> list[int]:
    """Return numbers of calls, evenly spread from the first to the last; all of them if there are no more."""
    if points >= calls:
        return list(range(1, calls + 1))
    return sorted({1 + round(index * (calls - 1) / max(points - 1, 1)) for index in range(points)})


def kill_at_points(
    scenario: Scenario,
    folder: Path,
    *,
    points: int | None = None,
    processes: int = PROCESSES,
    takes: Callable[[str], bool] = lambda path: True,
) -> list[Survival]:
    """Kill a job before a storage call, run it again, and compare with an undisturbed run, for each of some calls.

    Args:
        scenario: the job.
        folder: for the outputs; each point begins with an empty one, which is removed if all went well.
        points: number of calls, evenly spread from the first to the last; None takes all.
        processes: jobs that run at the same time.
        takes: whether the calls at a path are among them.
    """
    undisturbed = folder / f"{scenario.job.stem}-undisturbed"
    calls = [number for number, path in enumerate(storage_calls(scenario, undisturbed), start=1) if takes(path)]
    expected = scenario.hashes(Store(str(undisturbed)))
    assert expected, f"{scenario.name} has no results"
    survival = partial(kill_before, scenario, folder=folder, expected=expected)
    chosen = [calls[place - 1] for place in spread(len(calls), points or len(calls))]
    if processes == 1:
        return [survival(point) for point in chosen]
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(survival, chosen))


def kill_before(scenario: Scenario, point: int, *, folder: Path, expected: dict[str, str]) -> Survival:
    """Kill a job before storage call `point`, run it again, and compare its results with their expected SHA-256."""
    output = folder / f"{scenario.job.stem}-{point}"
    killed = _run(scenario, output, point=point)
    code = _run(scenario, output)
    identical = scenario.hashes(Store(str(output))) == expected
    if code == 0 and identical:
        shutil.rmtree(output)
    return Survival(point, killed == -signal.SIGKILL, code, identical)


def _run(scenario: Scenario, output: Path, *, point: int = 0, counter: Path | None = None) -> int | None:
    """Run a job in a process of its own; return its exit code, negative if a signal ended it."""
    settings = (f"job.output={output}", "cluster.mode=process")
    words = [scenario.command, str(scenario.job), *(word for each in settings for word in ("--set", each))]
    process = warm().Process(target=_run_counted, args=(words, point, counter))
    process.start()
    process.join()
    return process.exitcode


def _run_counted(words: list[str], point: int, counter: Path | None) -> None:
    """Run a command; kill this process before storage call `point` (0: never), or write the paths of all calls."""
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    retried, lock, calls = Store._retried, threading.Lock(), list[str]()

    def counted(store: Store, operation: str, path: str, action: Any) -> Any:
        with lock:
            calls.append(path)
            if len(calls) == point:
                os.kill(os.getpid(), signal.SIGKILL)
        return retried(store, operation, path, action)

    Store._retried = counted  # type: ignore[method-assign]
    code = fewshot(*words).code
    if counter is not None:
        counter.write_text(json.dumps(calls))
    sys.exit(code)
