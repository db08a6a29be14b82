"""Measure methods × shots × seeds on a labelled set. Every image is embedded once, every cell is a unit of its own.

Protocol (CoOp's, with nested draws): shots are drawn from the train split by (seed, image), hyperparameters and
temperature are chosen inside them, and the test split is read once, at the end of a cell. What a cell trains on its
folds are units, too, that run before the cells; trained parameters are kept (`ray_jobs.output.training_cache`).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cluster import Event, LocalExecutor, StageReport, Unit, UnitDone, run_stage
from cluster.execution.executor import unfinished, weight_left
from fewshot.methods.table import needs_of
from ray_jobs.console.progress import Reporter
from ray_jobs.errors import JobError
from ray_jobs.evaluation.cascades import cascades_of, mean_cascades, measure_all
from ray_jobs.evaluation.cell_step import Cell
from ray_jobs.evaluation.design import Evaluation
from ray_jobs.job_file.sections import Job
from ray_jobs.output.feature_parts import write_parquet
from ray_jobs.output.latest_runs import record_latest
from ray_jobs.output.layout import METRICS, REPORT
from ray_jobs.output.runs import Run, acquire_run, begin_run
from ray_jobs.report import render_evaluation
from ray_jobs.report.evaluation_table import Grid, Row, columns_of, mean_rows, per_class_rows, to_csv, to_markdown
from ray_jobs.results.evaluation_result import CascadeRow, CascadeTable, EvaluationResult
from ray_jobs.results.json_format import JsonObject, to_plain
from ray_jobs.steps.embed import EmbedStep
from ray_jobs.steps.example_latents import encode_examples
from ray_jobs.steps.placement import WORTH_A_RAY, choose

MANY_CELLS = 12
"""Cells still to be measured from which starting Ray pays on a machine that holds several workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedEvaluation:
    """What `evaluate` comes to.

    Attributes:
        run: the run with its table, complete or not.
        seconds: by method, seconds that its units took in this call, rounded.
        report: URL of the page; None if there is no row to show.
    """

    run: Run
    result: EvaluationResult
    seconds: Mapping[str, float]
    report: str | None

    def to_json(self) -> JsonObject:
        """Return what the command prints: the table, and where everything lies."""
        places: JsonObject = {"run": self.run.url, "seconds": to_plain(self.seconds), "report": self.report}
        return self.result.to_json() | places


def evaluate(job: Job, reporter: Reporter) -> FinishedEvaluation:
    """Measure every cell and put them in a table.

    Args:
        job: a job file with [evaluate].
        reporter: where to tell how it is going.

    Returns:
        with the table, mean and standard deviation over seeds; `result.complete` says whether every cell is in it.

    Raises:
        JobError: the job cannot start.
        DataError: the splits are not what they should be.
        LeaseHeldError: another process is at work on this very evaluation; nothing was done.
        ClusterError: storage or workers fail as a whole. Run again to resume.
    """
    work = Evaluation.from_job(job)
    if job.escalate is not None and not work.draws_cascades:
        reporter.say(f"[escalate] plays no part in {work.section.protocol}: cascades need examples of every class")
    for reason in work.shortages():
        reporter.say(reason, style="yellow")
    cascades = cascades_of(work)
    with acquire_run(work.store, work.run, job.storage, reporter) as lease:
        _write_plan(work)
        embedding = _embed(work, [unit for cascade in cascades for unit in cascade.support.units], reporter)
        if embedding.failed:
            raise JobError([f"could not be embedded: {f.path}: {f.error}" for f in embedding.failures])
        measuring, seconds = _measure(work, reporter)
        curves, asking = measure_all(work, cascades, reporter)
        lease.check()
        return _report(work, [measuring, *asking], mean_cascades(curves), seconds)


def _write_plan(work: Evaluation) -> None:
    begin_run(work.store, work.run, work.job, work.plan)


def _measure(work: Evaluation, reporter: Reporter) -> tuple[StageReport, dict[str, float]]:
    """Train the folds of the cells that are missing, then measure these cells, on the same workers."""
    missing = [unit.payload for unit in unfinished(work.cells, work.ledger) if isinstance(unit, Unit)]
    folds = {unit.path: unit for cell in missing for unit in work.fold_pretrainings(cell)}
    threads = work.job.clip.threads
    executor, workers = choose(
        work.job.cluster, threads=threads, images=WORTH_A_RAY if len(missing) >= MANY_CELLS else 0
    )
    if not missing:
        executor = LocalExecutor()
    workers = replace(workers, overlap=1)  # Nothing to decode ahead, and no module for two threads at a time.
    step = work.step(_needs(missing))
    if step.diffusion is not None:
        encode_examples(work.store, step.diffusion, work.pool)
    seconds: dict[str, float] = defaultdict(float)
    with executor:
        with reporter.stage("training folds", len(folds), unit="folds") as on_event:
            run_stage(executor, step, list(folds.values()), work.ledger, workers, _timed(seconds, on_event))
        with reporter.stage("evaluating", len(work.cells), unit="cells") as on_event:
            report = run_stage(executor, step, work.cells, work.ledger, workers, _timed(seconds, on_event))
    return report, {method: round(spent, 1) for method, spent in sorted(seconds.items())}


def _needs(cells: Sequence[Cell]) -> frozenset[str]:
    return frozenset[str]().union(*(needs_of(cell.method, cell.hyperparameters) for cell in cells))


def _timed(seconds: dict[str, float], on_event: Callable[[Event], None]) -> Callable[[Event], None]:
    """Tell an event, and add a unit's time to its method's."""

    def tell(event: Event) -> None:
        if isinstance(event, UnitDone):
            seconds[event.path.split("/")[-2]] += event.seconds
        on_event(event)

    return tell


def _embed(work: Evaluation, examples: Sequence[Unit], reporter: Reporter) -> StageReport:
    """Embed the train and test images, and the examples of cascades."""
    units = list({unit.path: unit for unit in [*work.pool.units, *examples, *work.test.units]}.values())
    left = weight_left(units, work.ledger)
    executor, workers = choose(work.job.cluster, threads=work.job.clip.threads, images=left)
    if not left:
        executor = LocalExecutor()
    step = EmbedStep(work.job.clip.spec, decode_threads=max(2, int(workers.cpus)))
    with executor, reporter.stage("embedding", sum(unit.weight for unit in units)) as on_event:
        return run_stage(executor, step, units, work.ledger, workers, on_event)


def _report(
    work: Evaluation, stages: Sequence[StageReport], cascades: Sequence[CascadeRow], seconds: dict[str, float]
) -> FinishedEvaluation:
    failed = {failure.path for stage in stages for failure in stage.failures}
    rows = [json.loads(work.store.get(unit.path)) for unit in work.cells if unit.path not in failed]
    table = mean_rows(rows, work.section.protocol)
    per_class = per_class_rows(rows, work.splits.label_space.names)
    tables: dict[str, Sequence[Row]] = {
        "table": [row.to_json() for row in table],
        "per_class": per_class,
        "cascades": [row.to_json() for row in cascades],
    }
    for name, lines in tables.items():
        if lines or name != "cascades":
            work.store.put(f"{work.run}/{name}.csv", to_csv(columns_of(lines)))
            work.store.put(f"{work.run}/{name}.parquet", write_parquet(columns_of(lines)))
    work.store.put(f"{work.run}/table.md", to_markdown(Grid(table, work.section.protocol)))
    work.store.put(f"{work.run}/cells.parquet", write_parquet(columns_of(rows)))
    result = EvaluationResult(
        title=_title(work, test_images=max((row["test_images"] for row in rows), default=len(work.splits.test))),
        protocol=work.section.protocol,
        complete=not failed,
        table=tuple(table),
        cascades=_cascade_table(work, cascades),
        failed_cells=tuple(sorted(failed)),
    )
    work.store.put(f"{work.run}/{METRICS}", result.to_bytes())
    page = f"{work.run}/{REPORT}"
    if table:
        work.store.put(page, render_evaluation(result, per_class))
    if result.complete:
        record_latest(work.store, work.job.job.name, "evaluation", work.run)
    run = Run(work.store, work.run, work.plan, result)
    return FinishedEvaluation(run=run, result=result, seconds=seconds, report=work.store.url(page) if table else None)


def _title(work: Evaluation, *, test_images: int) -> str:
    lost = len(work.splits.test) - test_images
    unreadable = f" ({lost} could not be read)" if lost else ""
    new = f", {len(work.new)} of them new" if work.new else ""
    classes = f"{len(work.splits.label_space)} classes{new}"
    return f"{work.job.job.name}, {work.section.protocol}: {classes}, {test_images} test images{unreadable}, in %"


def _cascade_table(work: Evaluation, cascades: Sequence[CascadeRow]) -> CascadeTable | None:
    section = work.job.escalate
    if section is None or not cascades:
        return None
    candidates = min(section.candidates, len(work.splits.label_space))
    cheap = work.job.classifier.method
    return CascadeTable(cheap=cheap, method=section.method, candidates=candidates, rows=tuple(cascades))
