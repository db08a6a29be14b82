"""Inject random faults into jobs, and compare their results with those of a run without faults.

    python -m tests.chaos --minutes 10 [--seed 7]
    make chaos MINUTES=10

First each job (classify, the same with unknown images and label sets, the same with escalation, training) is killed
before each of its storage calls, and run again. Then the jobs run on a cluster of several nodes with an S3 server or a
disk, while workers, nodes, drivers, heads and the server are killed, and requests are refused, reset, truncated and
delayed. Each job is restarted until it succeeds; then its results must have the bytes of a run without faults.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path

from tests.chaos.kill_points import kill_at_points
from tests.chaos.rig import rig_in
from tests.chaos.run import chaos, run_undisturbed
from tests.chaos.scenarios import scenarios
from tests.s3.server import CREDENTIALS, start_server


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="start no further job after this time")
    parser.add_argument("--seed", type=int, help="seed of all random choices; printed in any case")
    parser.add_argument(
        "--kill-points", type=int, help="storage calls of each job before which it is killed, 0 for none (default: all)"
    )
    parser.add_argument("--folder", type=Path, help="keep all files there (default: a temporary folder)")
    arguments = parser.parse_args()
    seed = random.SystemRandom().getrandbits(31) if arguments.seed is None else arguments.seed
    sys.stderr.write(f"seed {seed}\n")
    stdout = os.dup(1)
    os.dup2(2, 1)  # Ray's processes write to stdout as well.
    os.environ.update(CREDENTIALS)  # For this process, its nodes, and their workers.
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        folder = (arguments.folder or Path(temporary)).absolute()
        (folder / "s3").mkdir(parents=True)
        killed = {} if arguments.kill_points == 0 else _kill_everywhere(folder / "killed", arguments.kill_points)
        expected = run_undisturbed(scenarios(folder / "jobs"), folder)
        with start_server(folder / "s3") as server, rig_in(folder, server) as rig:
            result = chaos(rig, expected, minutes=arguments.minutes, seed=seed)
    result["kill_points"] = killed
    os.write(stdout, (json.dumps(result, indent=2) + "\n").encode())
    unharmed = all(each["unharmed"] == each["killed"] for each in killed.values())
    return 0 if result["identical"] == result["jobs"] and result["jobs"] and unharmed else 1


def _kill_everywhere(folder: Path, points: int | None) -> dict[str, dict[str, int]]:
    """Kill small jobs before their storage calls; return for each the number of kills, and of those without harm."""
    found = {}
    for scenario in scenarios(folder, images=6, draws=(1,)):
        survivals = kill_at_points(scenario, folder, points=points)
        found[scenario.name] = {"killed": len(survivals), "unharmed": sum(each.is_unharmed for each in survivals)}
        sys.stderr.write(f"{scenario.name}: {found[scenario.name]}\n")
        sys.stderr.writelines(f"  {each}\n" for each in survivals if not each.is_unharmed)
    return found


if __name__ == "__main__":
    sys.exit(main())
