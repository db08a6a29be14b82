"""The embedding stage of a job: `python -m tests.bench.contenders.ours IMAGES OUTPUT [--ray WORKERS]`."""

from __future__ import annotations

import argparse
import sys

from cluster import Ledger, LocalExecutor, RayExecutor, Store, Workers, run_stage
from cluster.records import open_source
from fewshot.backbones import ClipSpec
from ray_jobs.inputs.archive import archive_units
from tests.bench.contenders.stub import StubbedEmbedStep


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("images")
    parser.add_argument("output")
    parser.add_argument("--ray", type=int, metavar="WORKERS")
    options = parser.parse_args()
    executor = LocalExecutor() if options.ray is None else RayExecutor(num_cpus=options.ray)
    source, ledger = open_source(options.images), Ledger(Store(options.output))
    with executor:
        units = archive_units(source, "features")
        report = run_stage(executor, StubbedEmbedStep(ClipSpec()), units, ledger, Workers(count=options.ray or 1))
    assert not report.failed, report.failures
    read = report.summary["images"] - report.summary["unreadable"]
    sys.stdout.write(f"{read:.0f}\n")


if __name__ == "__main__":
    main()
