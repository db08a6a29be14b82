"""Measure methods × shots × seeds on a labelled set. Every image is embedded once, every cell is a unit of its own.

Protocol (CoOp's, with nested draws): shots are drawn from the train split by (seed, image), hyperparameters and
temperature are chosen inside them, and the test split is read once, at the end of a cell. What a cell trains on its
folds are units, too, that run before the cells; whatever was trained is kept (`ray_jobs.memo`) and never again.
"""

from __future__ import annotations

import json
import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

from cluster import Event, Ledger, LocalExecutor, StageReport, Store, Unit, UnitDone, fingerprint, run_stage
from cluster.executor import unfinished
from fewshot.data import Splits, parse_splits
from fewshot.names import wants_dense, wants_diffusion
from ray_jobs.cells import Cell, EvaluateStep, Rehearsal
from ray_jobs.embed import EmbedStep
from ray_jobs.errors import JobError
from ray_jobs.escalation.examples import encode_examples
from ray_jobs.evaluation_table import Grid, columns_of, mean_rows, per_class_rows, to_csv, to_markdown
from ray_jobs.features import write_parquet
from ray_jobs.layout import METRICS, REPORT, features_folder, run_folder, to_json
from ray_jobs.placement import WORTH_A_RAY, choose
from ray_jobs.progress import Reporter
from ray_jobs.report import render_evaluation
from ray_jobs.sections import EvaluateSection, Job
from ray_jobs.support import LabelledUnits, Labels, by_draw, in_blocks, labelled_units, read_text
from ray_jobs.training import METHODS_VERSION

VIEWS = 10
"""Augmented views of an example where the job file has no [support]."""
TEST_BLOCK = 256
MANY_CELLS = 12
"""Cells still to be measured from which starting Ray pays on a machine that holds several workers."""


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that was looked at, but not run.

    Attributes:
        job: the job file.
        section: its [evaluate].
        store: the output.
        splits: which image is for what.
    """

    job: Job
    section: EvaluateSection
    store: Store
    splits: Splits

    @classmethod
    def of(cls, job: Job) -> Evaluation:
        """Read the splits.

        Raises:
            JobError: [evaluate] is missing, or the splits hold nothing to learn from or to test on.
            DataError: the splits are not what they should be.
        """
        if job.evaluate is None:
            raise JobError(["evaluate needs the section [evaluate]"])
        splits = parse_splits(read_text(job.evaluate.splits), name=posixpath.basename(job.evaluate.splits))
        if not splits.train or not splits.test:
            raise JobError([f"{job.evaluate.splits}: an evaluation needs images in train and in test"])
        return cls(job, job.evaluate, Store(job.job.output), splits)

    @property
    def ledger(self) -> Ledger:
        """What is committed."""
        return Ledger(self.store)

    @property
    def views(self) -> int:
        """Augmented views of each example."""
        return self.job.support.views if self.job.support else VIEWS

    @cached_property
    def dense(self) -> bool:
        """Whether a method wants dense tokens."""
        return any(wants_dense(name, self._hyperparameters(name)) for name in self.section.methods)

    @cached_property
    def new(self) -> tuple[int, ...]:
        """Classes without examples.

        Raises:
            JobError: `new_classes` names a class that there is not, or all of them.
        """
        names = self.splits.label_space.names
        if self.section.protocol == "few-shot":
            return ()
        if self.section.new_classes is None:
            return tuple(range((len(names) + 1) // 2, len(names)))
        if unknown := sorted(set(self.section.new_classes) - set(names)):
            raise JobError([f"[evaluate] new_classes: {self.section.splits} has no class {', '.join(unknown)}"])
        new = tuple(label for label, name in enumerate(names) if name in set(self.section.new_classes))
        if len(new) == len(names):
            raise JobError(["[evaluate] new_classes names every class; nothing is left to learn from"])
        return new

    @cached_property
    def pool(self) -> LabelledUnits:
        """The train images that any cell draws."""
        groups = by_draw(self.draws[max(self.section.shots), seed] for seed in dict.fromkeys(self.section.seeds))
        drawn = {image for group in groups for image in group}
        labels = self._labels([pair for pair in self.splits.train if pair[0] in drawn])
        folder = self._features(f"support-{self.views}")
        return labelled_units(labels, groups, features=folder, views=self.views, dense=self.dense)

    @cached_property
    def test(self) -> LabelledUnits:
        """The test images."""
        labels = self._labels(self.splits.test)
        folder = self._features(fingerprint(["test", self._folder]))
        return labelled_units(labels, in_blocks(labels, TEST_BLOCK), features=folder, views=0, dense=self.dense)

    @cached_property
    def draws(self) -> dict[tuple[int, int], Labels]:
        """The examples of a number of shots and a seed: drawn from all classes, those of new classes then left out."""
        train, new = self._labels(self.splits.train), set(self.new)
        limits = [0 if label in new else None for label in range(len(self.splits.label_space))]
        wanted = product(self.section.shots, self.section.seeds)
        return {(shots, seed): train.drawn(shots, seed).limited(limits) for shots, seed in wanted}

    def step(self, needs: frozenset[str]) -> EvaluateStep:
        """What trains and measures cells of methods that need this."""
        diffusion = self.job.diffusion.spec if "diffusion" in needs else None
        clip = self.job.clip
        return EvaluateStep(self.store, clip.spec, clip.templates, self.pool, self.test, needs, diffusion)

    @cached_property
    def cells(self) -> list[Unit]:
        """One unit for each method, number of shots and seed; what the job file names twice is measured once."""
        cells = product(self.section.methods, self.section.shots, self.section.seeds)
        return [self._cell(*cell) for cell in dict.fromkeys(cells)]

    def rehearsals(self, cell: Cell) -> Iterator[Unit]:
        """The trainings that a cell will ask for: a unit for each fold of each method that it consists of."""
        from fewshot.methods import TrainedMethod, method_named

        method = method_named(cell.method, **cell.hyperparameters)
        for part in getattr(method, "members", [method]):
            if isinstance(part, TrainedMethod):
                own = cell if part is method else replace(cell, method=part.name, hyperparameters={})
                for fold in range(part.folds):
                    path = f"rehearsals/{self._name(own)}-fold-{fold}-{fingerprint(self._trained_from(own))}.json"
                    yield Unit(path, Rehearsal(own, fold))

    @cached_property
    def run(self) -> str:
        """Folder of the table."""
        return run_folder(self.job.job.name, [unit.path for unit in self.cells])

    def _cell(self, method: str, shots: int, seed: int) -> Unit:
        images, hyperparameters = self.draws[shots, seed].images, self._hyperparameters(method)
        cell = Cell(method, hyperparameters, shots, seed, images, self.section.protocol, self.new)
        identity = [self._trained_from(cell), self.test.identity, cell.protocol, cell.new]
        return Unit(f"evaluations/{cell.protocol}/{self._name(cell)}-{fingerprint(identity)}.json", cell)

    def _hyperparameters(self, method: str) -> dict[str, Any]:
        return self.job.classifier.hyperparameters if method == self.job.classifier.method else {}

    @staticmethod
    def _name(cell: Cell) -> str:
        return f"{cell.method}/{cell.shots}-shots-seed-{cell.seed}"

    def _trained_from(self, cell: Cell) -> list[object]:
        """All that determines what a cell trains."""
        method = [METHODS_VERSION, cell.method, cell.hyperparameters, cell.seed]
        if wants_diffusion(cell.method, cell.hyperparameters):
            method.append(self.job.diffusion.spec.identity())
        return [*method, self.job.clip.templates, *self._data[cell.shots, cell.seed]]

    @cached_property
    def _data(self) -> dict[tuple[int, int], list[object]]:
        clip = self.job.clip.spec.identity()
        return {which: [clip, self.pool.identity_of(drawn)] for which, drawn in self.draws.items()}

    @property
    def _folder(self) -> str:
        return self.section.images or posixpath.dirname(self.section.splits) or "."

    def _features(self, of: str) -> str:
        return features_folder(self.job.clip.spec, of)

    def _labels(self, pairs: Sequence[tuple[str, int]]) -> Labels:
        images, labels = zip(*pairs, strict=True)
        return Labels(self.splits.label_space, self._folder, images, labels)


def evaluate(job: Job, reporter: Reporter) -> dict[str, Any]:
    """Measure every cell and put them in a table.

    Args:
        job: a job file with [evaluate].
        reporter: where to tell how it is going.

    Returns:
        the table, mean and standard deviation over seeds; `complete` says whether every cell is in it.

    Raises:
        JobError: the job cannot start.
        DataError: the splits are not what they should be.
        ClusterError: storage or workers fail as a whole. Run again to resume.
    """
    work = Evaluation.of(job)
    embedding = _embed(work, reporter)
    if embedding.failed:
        raise JobError([f"could not be embedded: {f.path}: {f.error}" for f in embedding.failures])
    measuring, seconds = _measure(work, reporter)
    return _report(work, measuring, seconds)


def _measure(work: Evaluation, reporter: Reporter) -> tuple[StageReport, dict[str, float]]:
    """Train the folds of the cells that are missing, then measure these cells, on the same workers."""
    missing = [unit.payload for unit in unfinished(work.cells, work.ledger) if isinstance(unit, Unit)]
    folds = {unit.path: unit for cell in missing for unit in work.rehearsals(cell)}
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
    if not cells:
        return frozenset()
    from fewshot.methods import method_named

    settings = {cell.method: cell.hyperparameters for cell in cells}
    return frozenset().union(*(method_named(name, **given).needs for name, given in settings.items()))


def _timed(seconds: dict[str, float], on_event: Callable[[Event], None]) -> Callable[[Event], None]:
    """Tell an event, and add a unit's time to its method's."""

    def tell(event: Event) -> None:
        if isinstance(event, UnitDone):
            seconds[event.path.split("/")[-2]] += event.seconds
        on_event(event)

    return tell


def _embed(work: Evaluation, reporter: Reporter) -> StageReport:
    units = [*work.pool.units, *work.test.units]
    left = sum(unit.weight for unit in units if not work.store.exists(unit.path))
    executor, workers = choose(work.job.cluster, threads=work.job.clip.threads, images=left)
    if not left:
        executor = LocalExecutor()
    step = EmbedStep(work.job.clip.spec, decode_threads=max(2, int(workers.cpus)))
    with executor, reporter.stage("embedding", sum(unit.weight for unit in units)) as on_event:
        return run_stage(executor, step, units, work.ledger, workers, on_event)


def _report(work: Evaluation, measuring: StageReport, seconds: dict[str, float]) -> dict[str, Any]:
    failed = {failure.path for failure in measuring.failures}
    rows = [json.loads(work.store.get(unit.path)) for unit in work.cells if unit.path not in failed]
    table = mean_rows(rows, work.section.protocol)
    per_class = per_class_rows(rows, work.splits.label_space.names)
    for name, columns in (("table", columns_of(table)), ("per_class", columns_of(per_class))):
        work.store.put(f"{work.run}/{name}.csv", to_csv(columns))
        work.store.put(f"{work.run}/{name}.parquet", write_parquet(columns))
    work.store.put(f"{work.run}/table.md", to_markdown(Grid(table, work.section.protocol)))
    work.store.put(f"{work.run}/cells.parquet", write_parquet(columns_of(rows)))
    K, N = len(work.splits.label_space), len(work.splits.test)
    new = f", {len(work.new)} of them new" if work.new else ""
    result = {
        "title": f"{work.job.job.name}, {work.section.protocol}: {K} classes{new}, {N} test images, in %",
        "protocol": work.section.protocol,
        "complete": not failed,
        "table": table,
        "failed_cells": sorted(failed),
        "run": work.store.url(work.run),
    }
    work.store.put(f"{work.run}/{METRICS}", to_json(result))
    page = f"{work.run}/{REPORT}"
    if table:
        work.store.put(page, render_evaluation(result, per_class))
    return result | {"seconds": seconds, "report": work.store.url(page) if table else None}
