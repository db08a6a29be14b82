"""Break things at random, and see whether the bytes are right.

    python -m tests.chaos --minutes 10 [--seed 7]
    make chaos MINUTES=10

Jobs (classify, classify with a second opinion, training) run on a cluster of several nodes and an S3 server, or on a
disk, while workers, nodes, drivers, heads and the server are killed, and answers are refused, reset, cut off and late.
Each job is started again until it is through; then its results must have the bytes of an undisturbed run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path

from tests.chaos.rig import rig_in
from tests.chaos.run import chaos, undisturbed
from tests.chaos.scenarios import scenarios
from tests.s3.server import CREDENTIALS, start_server


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="no job begins later than this")
    parser.add_argument("--seed", type=int, help="of everything that is drawn; printed in any case")
    parser.add_argument("--folder", type=Path, help="keep everything there; a temporary one otherwise")
    arguments = parser.parse_args()
    seed = random.SystemRandom().getrandbits(31) if arguments.seed is None else arguments.seed
    sys.stderr.write(f"seed {seed}\n")
    stdout = os.dup(1)
    os.dup2(2, 1)  # Ray's processes write there, too.
    os.environ.update(CREDENTIALS)  # Of this process, of the nodes that it starts, and of their workers.
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        folder = (arguments.folder or Path(temporary)).absolute()
        (folder / "s3").mkdir(parents=True)
        expected = undisturbed(scenarios(folder / "jobs"), folder)
        with start_server(folder / "s3") as server, rig_in(folder, server) as rig:
            result = chaos(rig, expected, minutes=arguments.minutes, seed=seed)
    os.write(stdout, (json.dumps(result, indent=2) + "\n").encode())
    return 0 if result["identical"] == result["jobs"] and result["jobs"] else 1


if __name__ == "__main__":
    sys.exit(main())
