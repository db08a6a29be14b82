"""Stages that run one after the other on one set of workers, up to the first that fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from cluster import Executor, Ledger, StageReport, Step, Unit, Workers, run_stage
from fewshot.backbones.diffusion.diffusion_spec import DiffusionSpec
from ray_jobs.console.progress import Reporter
from ray_jobs.console.rate import IMAGES
from ray_jobs.job_file.sections import ClusterSection
from ray_jobs.steps.diffusion_worker import UNITS_AT_A_TIME
from ray_jobs.steps.placement import choose, entered

QUERIES_PER_IMAGE = 20
"""Queries of the diffusion model that take as long as embedding an image, when workers are chosen."""


class IncompleteError(Exception):
    """A part that a decision depends on is missing; the failed units are in a report. Caught in ray_jobs."""


@dataclass
class Stages:
    """Runs stages on one set of workers, and collects their reports.

    Attributes:
        executor: runs the units; it was entered.
        workers: their number and size.
        ledger: of the output.
        reporter: shows progress.
        reports: of the stages that ran, in order.
    """

    executor: Executor
    workers: Workers
    ledger: Ledger
    reporter: Reporter
    reports: list[StageReport] = field(default_factory=list)

    def run(self, name: str, step: Step, units: Sequence[Unit], *, unit: str = IMAGES) -> None:
        """Run a stage to its end; without units, do nothing.

        Args:
            name: of the stage.
            step: the work.
            units: each with its weight.
            unit: abbreviation of what the weights count.

        Raises:
            IncompleteError: a unit failed.
        """
        if not units:
            return
        with self.reporter.stage(name, sum(each.weight for each in units), unit=unit) as on_event:
            report = run_stage(self.executor, step, units, self.ledger, self.workers, on_event)
        self.reports.append(report)
        if report.failures:
            raise IncompleteError


@contextmanager
def open_stages(
    num_queries: float, cluster: ClusterSection, ledger: Ledger, reporter: Reporter, *, spec: DiffusionSpec
) -> Iterator[Stages]:
    """Start workers, as many as the work pays for.

    Args:
        num_queries: queries of the diffusion model, at most.
        cluster: section of the job file.
        ledger: of the output.
        reporter: shows progress.
        spec: of the diffusion model.
    """
    images = int(num_queries) // QUERIES_PER_IMAGE
    executor, workers = choose(cluster, threads=spec.threads, images=images, device=spec.device)
    with entered(executor, reporter):
        yield Stages(executor, replace(workers, overlap=UNITS_AT_A_TIME), ledger, reporter)
