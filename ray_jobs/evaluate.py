"""Measure methods × shots × seeds on a labelled set. Every image is embedded once, every cell is a unit of its own.

Protocol (CoOp's, with nested draws): shots are drawn from the train split by (seed, image), hyperparameters and
temperature are chosen inside them, and the test split is read once, at the end of a cell.
"""

from __future__ import annotations

import json
import posixpath
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from cluster import Ledger, LocalExecutor, StageReport, Store, Unit, Workers, fingerprint, run_stage
from fewshot.data import Splits, parse_splits
from ray_jobs.cells import Cell, EvaluateStep
from ray_jobs.embed import EmbedStep
from ray_jobs.errors import JobError
from ray_jobs.features import write_parquet
from ray_jobs.layout import METRICS, features_folder, run_folder, to_json
from ray_jobs.placement import choose
from ray_jobs.progress import Reporter
from ray_jobs.sections import EvaluateSection, Job
from ray_jobs.support import LabelledUnits, Labels, labelled_units, read_text
from ray_jobs.training import METHODS_VERSION

VIEWS = 10
"""Augmented views of an example where the job file has no [support]."""
TEST_BLOCK = 256
NUMBERS = ("accuracy", "macro_f1", "ece")


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
    def pool(self) -> LabelledUnits:
        """The train images that any cell draws."""
        train = self._labels(self.splits.train)
        drawn = {image for seed in self.section.seeds for image in train.drawn(max(self.section.shots), seed).images}
        pairs = [pair for pair in self.splits.train if pair[0] in drawn]
        return labelled_units(self._labels(pairs), features=self._features(f"support-{self.views}"), views=self.views)

    @cached_property
    def test(self) -> LabelledUnits:
        """The test images."""
        folder = self._features(fingerprint(["test", self._folder]))
        return labelled_units(self._labels(self.splits.test), features=folder, views=0, block=TEST_BLOCK)

    def draw(self, shots: int, seed: int) -> Labels:
        """The examples of a cell."""
        return self._labels(self.splits.train).drawn(shots, seed)

    @cached_property
    def step(self) -> EvaluateStep:
        """What trains and measures a cell."""
        return EvaluateStep(self.store, self.job.clip.spec, self.job.clip.templates, self.pool, self.test)

    def cells(self) -> list[Unit]:
        """One unit for each method, number of shots and seed; what the job file names twice is measured once."""
        cells = product(self.section.methods, self.section.shots, self.section.seeds)
        return [self._cell(*cell) for cell in dict.fromkeys(cells)]

    @cached_property
    def run(self) -> str:
        """Folder of the table."""
        return run_folder(self.job.job.name, [unit.path for unit in self.cells()])

    def _cell(self, method: str, shots: int, seed: int) -> Unit:
        hyperparameters = self.job.classifier.hyperparameters if method == self.job.classifier.method else {}
        drawn = self.draw(shots, seed)
        chosen = [method, hyperparameters, shots, seed, drawn.images]
        identity = [METHODS_VERSION, self.job.clip.templates, self._data, chosen]
        path = f"evaluations/{method}/{shots}-shots-seed-{seed}-{fingerprint(identity)}.json"
        return Unit(path, Cell(method, hyperparameters, shots, seed, drawn.images))

    @cached_property
    def _data(self) -> list[object]:
        return [self.pool.identity, self.test.identity, self.job.clip.spec.identity()]

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
    cells = work.cells()
    with LocalExecutor() as executor, reporter.stage("evaluating", len(cells)) as on_event:
        measuring = run_stage(executor, work.step, cells, work.ledger, Workers(count=1), on_event)
    return _report(work, cells, measuring)


def _embed(work: Evaluation, reporter: Reporter) -> StageReport:
    units = [*work.pool.units, *work.test.units]
    left = sum(unit.weight for unit in units if not work.store.exists(unit.path))
    executor, workers = choose(work.job.cluster, threads=work.job.clip.threads, images=left)
    if not left:
        executor = LocalExecutor()
    step = EmbedStep(work.job.clip.spec, decode_threads=max(2, int(workers.cpus)))
    with executor, reporter.stage("embedding", sum(unit.weight for unit in units)) as on_event:
        return run_stage(executor, step, units, work.ledger, workers, on_event)


def _report(work: Evaluation, cells: Sequence[Unit], measuring: StageReport) -> dict[str, Any]:
    failed = {failure.path for failure in measuring.failures}
    rows = [json.loads(work.store.get(unit.path)) for unit in cells if unit.path not in failed]
    table = _means(rows)
    names = [name for name in table[0] if name != "seeds"] if table else []
    columns = pa.table({name: [row[name] for row in table] for name in names})
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(columns, sink)
    work.store.put(f"{work.run}/table.csv", sink.getvalue().to_pybytes())
    work.store.put(f"{work.run}/table.parquet", write_parquet(columns))
    work.store.put(f"{work.run}/cells.parquet", write_parquet(pa.Table.from_pylist(rows)))
    classes, images = len(work.splits.label_space), len(work.splits.test)
    result = {
        "title": f"{work.job.job.name}: accuracy in %, {classes} classes, {images} test images",
        "complete": not failed,
        "table": table,
        "failed_cells": sorted(failed),
        "run": work.store.url(work.run),
    }
    work.store.put(f"{work.run}/{METRICS}", to_json(result))
    return result


def _means(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and sample standard deviation over seeds (0 for one seed)."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["method"], row["shots"]].append(row)
    return [
        {"method": method, "shots": shots, "seeds": len(group)}
        | {f"{n}_mean": statistics.fmean(row[n] for row in group) for n in NUMBERS}
        | {f"{n}_std": statistics.stdev(row[n] for row in group) if len(group) > 1 else 0.0 for n in NUMBERS}
        for (method, shots), group in groups.items()
    ]
