"""A run's folder belongs to one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cluster import Lease, Store, acquire_lease
from ray_jobs.console.progress import Reporter
from ray_jobs.job_file.sections import StorageSection
from ray_jobs.output.layout import LEASE


@contextmanager
def acquire_run(store: Store, run: str, section: StorageSection, reporter: Reporter) -> Iterator[Lease]:
    """Hold the lease on a run, and look at it whenever something happens in a stage.

    What runs that were killed left half-written in its folder is removed; stages do the same where they write.

    Args:
        store: the output.
        run: the run's folder.
        section: says how long a silent process is waited for.
        reporter: of the stages, which stop when the lease is lost.

    Raises:
        LeaseHeldError: another process is at work there. Nothing was written.
    """

    def wait(who: str) -> None:
        reporter.say(f"{store.url(run)} belongs to {who}; looking whether it is alive")

    with (
        acquire_lease(store, f"{run}/{LEASE}", term_s=section.lease_s, on_wait=wait) as lease,
        reporter.checking(lease.check),
    ):
        for folder in (run, f"{run}/{LEASE}"):
            store.remove_stale_files(folder)
        yield lease
