"""Stages that follow each other on one set of workers, up to the first that fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from cluster import Executor, Ledger, StageReport, Step, Unit, Workers, run_stage
from ray_jobs.console.progress import Reporter
from ray_jobs.job_file.sections import ClusterSection
from ray_jobs.steps.placement import choose


class IncompleteError(Exception):
    """Something is missing, so that nothing can be decided: failed units are in a report. Never leaves this package."""


@dataclass
class Stages:
    """Runs stages on one set of workers, and keeps what became of them."""

    executor: Executor
    workers: Workers
    ledger: Ledger
    reporter: Reporter
    reports: list[StageReport] = field(default_factory=list)

    def run(self, name: str, step: Step, units: Sequence[Unit]) -> None:
        """Run a stage to its end.

        Raises:
            IncompleteError: a unit failed.
        """
        if not units:
            return
        with self.reporter.stage(name, sum(unit.weight for unit in units)) as on_event:
            report = run_stage(self.executor, step, units, self.ledger, self.workers, on_event)
        self.reports.append(report)
        if report.failures:
            raise IncompleteError


@contextmanager
def stages_for(
    questions: float, cluster: ClusterSection, ledger: Ledger, reporter: Reporter, *, threads: int
) -> Iterator[Stages]:
    """Stages on as many workers as so many questions are worth; `threads` are a worker's."""
    executor, workers = choose(cluster, threads=threads, images=int(questions) // 20)
    with executor:
        yield Stages(executor, replace(workers, overlap=1), ledger, reporter)
