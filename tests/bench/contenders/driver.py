"""Measure a driver that lists an archive and runs a stage over it twice: its memory, and its CPU time by shard."""

import json
import sys
import tempfile
import time
import tracemalloc

from cluster import Ledger, LocalExecutor, Store, Workers, run_stage
from ray_jobs.inputs.archive import archive_units, list_archive, open_archive
from ray_jobs.job_file.sections import ArchiveSection
from tests.cluster.steps import NoOp


def main(table: str, shard_images: int) -> None:
    source = open_archive(ArchiveSection(uri=table, shard_images=shard_images))
    started = time.process_time()
    listing = list_archive(source)
    listed_s = time.process_time() - started
    with tempfile.TemporaryDirectory() as folder, LocalExecutor() as executor:
        ledger = Ledger(Store(folder))
        first = run_stage(executor, NoOp(), archive_units(source, "out"), ledger, Workers(overlap=1))
        started = time.process_time()
        again = run_stage(executor, NoOp(), archive_units(source, "out"), ledger, Workers(overlap=1))
        resumed_s = time.process_time() - started
        tracemalloc.start()  # Last, because it slows everything down.
        whole = list_archive(source)
        run_stage(executor, NoOp(), archive_units(source, "out"), ledger, Workers(overlap=1))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    assert whole == listing
    assert first.weight_done == again.weight_skipped == listing.images
    measured = {
        "images": listing.images,
        "shards": len(listing.shards),
        "listed_s": listed_s,
        "resumed_s": resumed_s,
        "peak_bytes": peak_bytes,
    }
    sys.stdout.write(json.dumps(measured))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
