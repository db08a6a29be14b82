"""Measure methods × shots × seeds on a labelled set. Every image is embedded once, every cell is a unit.

Protocol (CoOp's, with nested draws): shots are drawn from the train split by (seed, image), hyperparameters and
temperature are selected inside them or on images of the val split (`evaluate.validation`), and the test split is read
once, at the end of a cell. The trainings of a cell on
its folds are units, too, and run before the cells; trained parameters are kept (`ray_jobs.output.training_cache`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from cluster import Event, LocalExecutor, StageReport, Unit, UnitDone, run_stage
from cluster.execution.executor import unfinished, weight_left
from fewshot.digests import digest
from fewshot.methods.table import needs_of
from ray_jobs.console.progress import Reporter
from ray_jobs.errors import DamagedError, JobError
from ray_jobs.evaluation.cascades import mean_cascades, measure_cascades, plan_cascades
from ray_jobs.evaluation.cell_step import Cell
from ray_jobs.evaluation.design import VALIDATION, Evaluation
from ray_jobs.evaluation.known_features import copy_known_features
from ray_jobs.inputs.unreadable_examples import stop_at_unreadable
from ray_jobs.inputs.validation_examples import check_some_readable
from ray_jobs.job_file.sections import Job
from ray_jobs.output.feature_parts import write_parquet
from ray_jobs.output.latest_runs import record_latest
from ray_jobs.output.layout import METRICS, REPORT
from ray_jobs.output.runs import Run, acquire_run, begin_run, record_load, remove_noted_damage
from ray_jobs.report import render_evaluation
from ray_jobs.report.evaluation_table import Grid, class_rows, mean_rows, to_csv, to_markdown, to_table
from ray_jobs.results.cell_result import CellResult
from ray_jobs.results.evaluation_result import CascadeRow, CascadeTable, EvaluationResult
from ray_jobs.results.json_format import FormatError, JsonObject, JsonValue, to_plain
from ray_jobs.steps.embed import EmbedStep
from ray_jobs.steps.example_latents import encode_examples
from ray_jobs.steps.placement import LOOKING, WORTH_A_RAY, choose, entered
from ray_jobs.steps.train import reasons_of

EMBEDDING_EXAMPLES, EMBEDDING = "embedding examples", "embedding"
TRAINING_FOLDS, EVALUATING = "training folds", "evaluating"
MANY_CELLS = 12
"""Cells still to be measured from which starting Ray pays on a machine that holds several workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedEvaluation:
    """The outcome of `evaluate`.

    Attributes:
        run: the run with its table, complete or not.
        result: its table and cascades.
        seconds: by method, seconds that its units took in this call, rounded.
        report: URL of the page; None if there is no row to show.
    """

    run: Run
    result: EvaluationResult
    seconds: Mapping[str, float]
    report: str | None

    def to_json(self) -> JsonObject:
        """Return what the command prints: the table, and the places of all files."""
        places: JsonObject = {"run": self.run.url, "seconds": to_plain(self.seconds), "report": self.report}
        printed = {name: value for name, value in self.result.to_json().items() if name != "files"}
        return printed | places


def evaluate(job: Job, reporter: Reporter) -> FinishedEvaluation:
    """Measure every cell and put them in a table.

    Args:
        job: a job file with [evaluate].
        reporter: shows progress.

    Returns:
        With the table, mean and standard deviation over seeds; `result.complete` is whether it has every cell.

    Raises:
        JobError: the job cannot start, or train images cannot be read.
        DataError: the splits are malformed.
        LeaseHeldError: another process runs the same evaluation; nothing was done.
        DamagedError: a measured cell was damaged, and was removed; run again to measure it anew.
        ClusterError: storage or workers fail as a whole; run again to resume.
    """
    with reporter.waiting("reading the splits and the train images"):
        evaluation = Evaluation.from_job(job)
        evaluation.contents.check(skip=evaluation.skip_unreadable)
    if job.escalate is not None and not evaluation.has_cascades:
        reporter.say(f"[escalate] is ignored in {evaluation.section.protocol}: cascades need examples of every class")
    for reason in evaluation.shortages():
        reporter.say(reason, style="yellow")
    cascades = plan_cascades(evaluation)
    with acquire_run(evaluation.store, evaluation.run, job.storage, reporter) as lease:
        remove_noted_damage(evaluation.store, evaluation.run, reporter)
        begin_run(evaluation.store, evaluation.run, evaluation.job, evaluation.plan)
        if copied := copy_known_features(evaluation):
            reporter.say(f"{copied} images were embedded before in this output: their features are copied")
        with reporter.job("evaluate", _stages(evaluation)):
            _embed(evaluation, reporter)
            measuring, seconds = _measure(evaluation, reporter)
        measured, escalating = measure_cascades(evaluation, cascades, reporter)
        lease.check()
        return _report(evaluation, [measuring, *escalating], mean_cascades(measured), seconds)


def _stages(evaluation: Evaluation) -> dict[str, float]:
    """Return the work of each stage, see `JobWork`: cells take much longer or shorter from method to method."""
    train, work = sum(unit.weight for unit in evaluation.pool.units), evaluation.plan.work
    if work is None:
        return {}
    return {
        EMBEDDING_EXAMPLES: train,
        EMBEDDING: max(0.0, work.archive - train),
        TRAINING_FOLDS: 0.0,
        EVALUATING: work.results,
    }


def _measure(evaluation: Evaluation, reporter: Reporter) -> tuple[StageReport, dict[str, float]]:
    """Train the folds of the cells that are missing, then measure these cells, on the same workers."""
    missing = [unit.payload for unit in unfinished(evaluation.cells, evaluation.ledger) if isinstance(unit, Unit)]
    folds = {unit.path: unit for cell in missing for unit in evaluation.fold_pretrainings(cell)}
    threads = evaluation.job.clip.threads
    executor, workers = choose(
        evaluation.job.cluster, threads=threads, images=WORTH_A_RAY if len(missing) >= MANY_CELLS else 0
    )
    if not missing:
        executor = LocalExecutor()
    workers = replace(workers, overlap=1)  # Nothing to decode ahead, and no module for two threads at a time.
    step = evaluation.step(_needs(missing))
    if step.diffusion is not None:
        encode_examples(evaluation.store, step.diffusion, evaluation.train)
    seconds: dict[str, float] = defaultdict(float)
    with entered(executor, reporter):
        with reporter.stage(TRAINING_FOLDS, len(folds), unit="folds") as on_event:
            run_stage(executor, step, list(folds.values()), evaluation.ledger, workers, _timed(seconds, on_event))
        with reporter.stage(EVALUATING, len(evaluation.cells), unit="cells") as on_event:
            report = run_stage(executor, step, evaluation.cells, evaluation.ledger, workers, _timed(seconds, on_event))
    return report, {method: round(spent, 1) for method, spent in sorted(seconds.items())}


def _needs(cells: Sequence[Cell]) -> frozenset[str]:
    return frozenset[str]().union(*(needs_of(cell.method, cell.hyperparameters) for cell in cells))


def _timed(seconds: dict[str, float], on_event: Callable[[Event], None]) -> Callable[[Event], None]:
    """Return a handler that also adds the time of each unit to that of its method."""

    def handle(event: Event) -> None:
        if isinstance(event, UnitDone):
            seconds[event.path.split("/")[-2]] += event.seconds
        on_event(event)

    return handle


def _embed(evaluation: Evaluation, reporter: Reporter) -> None:
    """Embed the train images; if all are right, those of the other splits, on the same workers.

    Raises:
        JobError: images could not be embedded, or features of train or validation images are of no use.
    """
    train, test = evaluation.pool.units, evaluation.test.units
    val = () if evaluation.validation is None else evaluation.validation.units
    left = weight_left([*train, *val, *test], evaluation.ledger)
    with reporter.waiting(LOOKING):
        cluster, clip = evaluation.job.cluster, evaluation.job.clip
        executor, workers = choose(
            cluster, threads=clip.threads, images=left, device=clip.device, nodes=evaluation.nodes
        )
    if not left:
        executor = LocalExecutor()
    step = EmbedStep.for_workers(evaluation.job.clip.spec, workers)
    reports = []
    with entered(executor, reporter):
        for title, units in ((EMBEDDING_EXAMPLES, train), (EMBEDDING, (*val, *test))):
            with reporter.stage(title, sum(unit.weight for unit in units)) as on_event:
                report = run_stage(executor, step, units, evaluation.ledger, workers, on_event)
            if report.failed:
                raise JobError([f"images could not be embedded: {f.path}: {f.error}" for f in report.failures])
            reports.append(report)
            if units is train:
                _check_train_images(evaluation)
    if (validation := evaluation.validation) is not None:
        check_some_readable(validation.labels, reasons_of(validation.read(evaluation.store)), key=VALIDATION)
    record_load(evaluation.store, evaluation.run, step.load(reports), reporter)


def _check_train_images(evaluation: Evaluation) -> None:
    reasons = reasons_of(evaluation.pool.read(evaluation.store))
    stop_at_unreadable(evaluation.pool.labels, reasons, skip=evaluation.skip_unreadable)


def _report(
    evaluation: Evaluation, stages: Sequence[StageReport], cascades: Sequence[CascadeRow], seconds: dict[str, float]
) -> FinishedEvaluation:
    """Write the tables, the metrics and the page."""
    failed = {failure.path for stage in stages for failure in stage.failures}
    cells = [_read_cell(evaluation, unit.path) for unit in evaluation.cells if unit.path not in failed]
    per_class = class_rows(cells, evaluation.splits.label_space.names)
    result = _result(evaluation, cells, cascades, failed)
    files = _tables({"table": result.table, "per_class": per_class, "cascades": cascades})
    files["table.md"] = to_markdown(Grid(result.table, result.protocol))
    files["cells.parquet"] = write_parquet(to_table([cell.to_row() for cell in cells]))
    store, folder = evaluation.store, evaluation.run
    for name, content in files.items():
        store.put(f"{folder}/{name}", content)
    result = replace(result, files={name: digest(content) for name, content in sorted(files.items())})
    store.put(f"{folder}/{METRICS}", result.to_bytes())
    page = f"{folder}/{REPORT}"
    if result.table:
        store.put(page, render_evaluation(result, per_class))
    if result.complete:
        record_latest(store, evaluation.job.job.name, "evaluation", folder)
    report = store.url(page) if result.table else None
    run = Run(store, folder, evaluation.plan, result)
    return FinishedEvaluation(run=run, result=result, seconds=seconds, report=report)


def _result(
    evaluation: Evaluation, cells: Sequence[CellResult], cascades: Sequence[CascadeRow], failed: Collection[str]
) -> EvaluationResult:
    test_images = max((cell.test_images for cell in cells), default=len(evaluation.splits.test))
    return EvaluationResult(
        title=_title(evaluation, test_images=test_images),
        protocol=evaluation.section.protocol,
        complete=not failed,
        table=tuple(mean_rows(cells, evaluation.section.protocol)),
        cascades=_cascade_table(evaluation, cascades),
        failed_cells=tuple(sorted(failed)),
        files={},
    )


def _read_cell(evaluation: Evaluation, path: str) -> CellResult:
    """Read a measured cell.

    Raises:
        DamagedError: it is damaged, and was removed.
    """
    store = evaluation.store
    try:
        return CellResult.from_json(store.get(path), where=store.url(path))
    except FormatError as error:
        store.delete(path)
        raise DamagedError(f"{store.url(path)} was damaged and is gone; run again to measure it anew") from error


def _tables(tables: Mapping[str, Sequence[JsonValue]]) -> dict[str, bytes]:
    """Return, by name, each table as csv and as Parquet; the one of cascades only if it has rows."""
    files: dict[str, bytes] = {}
    for name, rows in tables.items():
        if rows or name != "cascades":
            table = to_table([row.to_json() for row in rows])
            files |= {f"{name}.csv": to_csv(table), f"{name}.parquet": write_parquet(table)}
    return files


def _title(evaluation: Evaluation, *, test_images: int) -> str:
    lost = len(evaluation.splits.test) - test_images
    unreadable = f" ({lost} could not be read)" if lost else ""
    new = f", {len(evaluation.new)} of them new" if evaluation.new else ""
    classes = f"{len(evaluation.splits.label_space)} classes{new}"
    name, protocol, validation = evaluation.job.job.name, evaluation.section.protocol, evaluation.section.validation
    chosen = f", {validation} validation" if validation != "none" else ""
    chosen += ", published recipes" if evaluation.section.recipe == "published" else ""
    return f"{name}, {protocol}{chosen}: {classes}, {test_images} test images{unreadable}, in %"


def _cascade_table(evaluation: Evaluation, cascades: Sequence[CascadeRow]) -> CascadeTable | None:
    section = evaluation.job.escalate
    if section is None or not cascades:
        return None
    candidates = min(section.candidates, len(evaluation.splits.label_space))
    cheap = evaluation.job.classifier.method
    return CascadeTable(cheap=cheap, method=section.method, candidates=candidates, rows=tuple(cascades))
