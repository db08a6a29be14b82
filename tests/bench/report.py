"""The report of a million predictions with labels, and pages of its classes: seconds and memory of writing both."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cluster import Store
from cluster.records import content_digest
from ray_jobs.classification.metrics import FAILURE_SCHEMA
from ray_jobs.job_file.sections import ArchiveSection, Job, JobSection, SupportSection
from ray_jobs.output.feature_parts import FeatureRows, encode, write_parquet
from ray_jobs.output.latest_runs import record_latest
from ray_jobs.output.layout import FAILURES, JOB, METRICS, PLAN, feature_part, prediction_parts, to_json
from ray_jobs.output.predictions import SCHEMA
from ray_jobs.output.runs import sealed_job_file
from ray_jobs.report import find_reports
from ray_jobs.results import ArchiveSummary, RunPlan
from tests.bench.result import Gate, Result
from tests.bench.usage import run_python
from tests.ray_jobs.written_run import MEASURED, METRICS_BY_HAND

RUN, PREDICTIONS = "runs/many", "predictions/many"
CLASSES = tuple(f"class {index:03}" for index in range(100))
SHARD_IMAGES, WRONG = 4096, 0.2
DIM, EXAMPLES = 512, 16
"""Size of a feature, and examples of a class."""
MIB = 2**20


def run(*, images: int, repeat: int) -> Result:
    """Write a run by hand, and its report in a process of its own.

    Args:
        images: predictions, each with a given label.
        repeat: unused: the page takes half a minute.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_run(Path(folder), images)
        outputs = [run_python("tests.bench.report", folder, *words).output for words in ((), ("--pages",))]
    rows: list[dict[str, str | float]] = [
        {"images": images, "what": what, **json.loads(output.splitlines()[-1])}
        for what, output in zip(("the report", "with pages of classes"), outputs, strict=True)
    ]
    bounds = {"seconds": 60, "MiB": 1024}
    gates = [
        Gate.at_most(f"{name}, {row['what']}", float(row[name]), bound)
        for row in rows
        for name, bound in bounds.items()
    ]
    return Result("report", "The report of a run with given labels and features, no pictures", rows, gates)


def write_run(folder: Path, images: int, *, classes: tuple[str, ...] = CLASSES) -> Store:
    """Write a finished run with so many predictions, a fifth of them wrong, and labels to compare them with.

    Args:
        folder: gets the output ("output") and the given labels ("given.csv"). There is no archive.
        images: number of predictions.
        classes: of the labels.
    """
    store = Store(str(folder / "output"))
    features: list[str] = []
    # The features of all shards are the same, so that every image has copies.
    units = np.random.default_rng(1).normal(size=(SHARD_IMAGES, 1, DIM)).astype(np.float32)
    block = encode(_features(units))
    with (folder / "given.csv").open("w") as given:
        given.write("image,label\n")
        for number, (rows, labels) in enumerate(_parts(images, classes)):
            features.append(feature_part("features/0/0", f"{number:016x}"))
            store.put(prediction_parts(PREDICTIONS, features[-1:])[0], write_parquet(rows))
            store.put(features[-1], block if len(rows) == SHARD_IMAGES else encode(_features(units[: len(rows)])))
            given.writelines(f"{image},{classes[label]}\n" for image, label in zip(rows["image"], labels, strict=True))
    counts = {"images": images, "ok": images, "abstained": 0, "unreadable": 0}
    scores = {"score_histogram": {"ok": [1] * 20, "abstained": [0] * 20}}
    examples = [f"examples/{place}.jpg" for place in range(EXAMPLES * len(classes))]
    contents = _write_examples(folder, examples, classes)
    example_part = feature_part("features/0/examples-1", "0" * 16)
    store.put(example_part, encode(_features(units[: len(contents)], contents)))
    metrics = METRICS_BY_HAND | MEASURED | counts | scores | {"labels": dict.fromkeys(classes, images // len(classes))}
    plan = RunPlan(
        kind="classification",
        job="many",
        classes=len(classes),
        features=tuple(features),
        archive=ArchiveSummary(images=images, shards=len(features), skipped=0, skipped_examples=()),
        examples=len(examples),
        example_parts=(example_part,),
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
    support = SupportSection(uri=str(folder / "examples.csv"))
    return Job(job=JobSection(name="many", output=str(folder / "output")), archive=archive, support=support)


def _features(units: np.ndarray, images: Sequence[str] | None = None) -> FeatureRows:
    count = len(units)
    names = [f"{row}.jpg" for row in range(count)] if images is None else list(images)
    return FeatureRows(names, [""] * count, [None] * count, units)


def _write_examples(folder: Path, names: list[str], classes: tuple[str, ...]) -> list[str]:
    """Write the examples and their table; return the digests of their contents."""
    (folder / "examples").mkdir()
    table = ["image,label"]
    for place, name in enumerate(names):
        (folder / name).write_bytes(str(place).encode())
        table.append(f"{name},{classes[place % len(classes)]}")
    (folder / "examples.csv").write_text("\n".join(table) + "\n")
    return [content_digest(str(place).encode()) for place in range(len(names))]


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


def _main(folder: Path, *, pages: bool) -> None:
    store = Store(str(folder / "output"))
    record_latest(store, "many", "classification", RUN)
    begin, cpu = time.monotonic(), time.process_time()
    (report,) = find_reports(store.root, pages=pages).reports
    assert report.path is not None
    row = {"seconds": time.monotonic() - begin, "CPU-seconds": time.process_time() - cpu, "MiB": _peak()}
    sizes = store.sizes(f"{RUN}/report/classes")
    row |= {"pages": len(sizes), "MB of pages": sum(sizes.values()) / 1e6}
    sys.stdout.write(json.dumps(row) + "\n")


def _peak() -> float:
    """Return the most memory that this process has held, in MiB; `getrusage` counts what its parent held as well."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / MIB


if __name__ == "__main__":
    _main(Path(sys.argv[1]), pages="--pages" in sys.argv)
