"""The report of a million predictions with given labels: seconds and memory of writing the page."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cluster import Store
from ray_jobs.classification.metrics import FAILURE_SCHEMA
from ray_jobs.job_file.sections import ArchiveSection, Job, JobSection
from ray_jobs.output.feature_parts import write_parquet
from ray_jobs.output.layout import FAILURES, JOB, METRICS, PLAN, feature_part, prediction_parts, to_json
from ray_jobs.output.predictions import SCHEMA
from ray_jobs.output.runs import sealed_job_file
from ray_jobs.report import ensure_report
from ray_jobs.results import ArchiveSummary, RunPlan
from tests.bench.result import Gate, Result
from tests.bench.usage import run_python
from tests.ray_jobs.written_run import MEASURED, METRICS_BY_HAND

RUN, PREDICTIONS = "runs/many", "predictions/many"
CLASSES = tuple(f"class {index:03}" for index in range(100))
SHARD_IMAGES, WRONG = 4096, 0.2
MIB = 2**20


def run(*, images: int, repeat: int) -> Result:
    """Write a run by hand, and its report in a process of its own.

    Args:
        images: predictions, each with a given label.
        repeat: unused: the page takes half a minute.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_run(Path(folder), images)
        usage = run_python("tests.bench.report", folder)
        measured = json.loads(usage.output.splitlines()[-1])
    row: dict[str, str | float] = {"images": images, **measured}
    gates = [Gate.at_most("seconds", measured["seconds"], 60), Gate.at_most("MiB", measured["MiB"], 1024)]
    return Result("report", "The report of a run with given labels, no pictures", [row], gates)


def write_run(folder: Path, images: int, *, classes: tuple[str, ...] = CLASSES) -> Store:
    """Write a finished run with so many predictions, a fifth of them wrong, and labels to compare them with.

    Args:
        folder: gets the output ("output") and the given labels ("given.csv"). There is no archive.
        images: number of predictions.
        classes: of the labels.
    """
    store = Store(str(folder / "output"))
    features = []
    with (folder / "given.csv").open("w") as given:
        given.write("image,label\n")
        for number, (rows, labels) in enumerate(_parts(images, classes)):
            features.append(feature_part("features/0/0", f"{number:016x}"))
            store.put(prediction_parts(PREDICTIONS, features[-1:])[0], write_parquet(rows))
            given.writelines(f"{image},{classes[label]}\n" for image, label in zip(rows["image"], labels, strict=True))
    counts = {"images": images, "ok": images, "abstained": 0, "unreadable": 0}
    scores = {"score_histogram": {"ok": [1] * 20, "abstained": [0] * 20}}
    metrics = METRICS_BY_HAND | MEASURED | counts | scores | {"labels": dict.fromkeys(classes, images // len(classes))}
    plan = RunPlan(
        kind="classification",
        job="many",
        classes=len(classes),
        features=tuple(features),
        archive=ArchiveSummary(images=images, shards=len(features), skipped=0, skipped_examples=()),
        examples=len(classes),
        predictions=tuple(prediction_parts(PREDICTIONS, features)),
    )
    store.put(f"{RUN}/{PLAN}", plan.to_bytes())
    store.put(f"{RUN}/{METRICS}", to_json(metrics))
    store.put(f"{RUN}/{FAILURES}", write_parquet(FAILURE_SCHEMA.empty_table()))
    store.put(f"{RUN}/{JOB}", sealed_job_file(job_of(folder)))
    return store


def job_of(folder: Path) -> Job:
    """Return the job of the run."""
    archive = ArchiveSection(uri=str(folder / "archive"), labels=str(folder / "given.csv"))
    return Job(job=JobSection(name="many", output=str(folder / "output")), archive=archive)


def _parts(images: int, classes: tuple[str, ...]) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Yield the predictions of each shard, with the true classes."""
    random = np.random.default_rng(0)
    for start in range(0, images, SHARD_IMAGES):
        count = min(SHARD_IMAGES, images - start)
        labels = random.integers(0, len(classes), count)
        is_wrong = random.random(count) < WRONG
        predicted = np.where(is_wrong, random.integers(0, len(classes), count), labels)
        score = np.where(is_wrong, 0.8 * random.random(count), 1.0 - 0.5 * random.random(count)).astype(np.float32)
        values: dict[str, Any] = {
            "image": [f"{start // SHARD_IMAGES:05}/{start + row:09}.jpg" for row in range(count)],
            "label": [classes[label] for label in predicted],
            "score": score,
            "margin": score,
            "top_labels": [[classes[label], classes[label - 1]] for label in predicted],
            "top_scores": [[each, (1.0 - each) / 2] for each in score.tolist()],
            "decided_by": ["gda"] * count,
            "status": ["ok"] * count,
            "source": [""] * count,
        }
        columns = [
            pa.array(values[item.name], item.type) if item.name in values else pa.nulls(count, item.type)
            for item in SCHEMA
        ]
        yield pa.table(columns, schema=SCHEMA), labels


def _main(folder: Path) -> None:
    store = Store(str(folder / "output"))
    begin = time.monotonic()
    assert ensure_report(store, RUN, job_of(folder), keep=False) is not None
    seconds, peak = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
    sys.stdout.write(json.dumps({"seconds": seconds, "MiB": peak}) + "\n")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
