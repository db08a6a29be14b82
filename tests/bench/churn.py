"""Two runs of a million predictions, compared: seconds and memory, for the same shards and for others."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cluster import Store
from ray_jobs.churn import write_churn
from ray_jobs.job_file.sections import ArchiveSection, Job, JobSection
from ray_jobs.output.feature_parts import write_parquet
from ray_jobs.output.layout import CARD, JOB, METRICS, PLAN, feature_part, prediction_parts, to_json
from ray_jobs.output.predictions import SCHEMA
from ray_jobs.output.runs import Run, read_run, sealed_job_file
from ray_jobs.results import ArchiveSummary, RunPlan
from tests.bench.result import Gate, Result
from tests.bench.usage import run_python
from tests.ray_jobs.written_run import METRICS_BY_HAND

CLASSES = tuple(f"class {index:03}" for index in range(100))
SHARD_IMAGES, CHANGED, MIB, GROWTH = 4096, 0.02, 2**20, 2.0


def run(*, images: int, repeat: int) -> Result:
    """Compare two runs, each time in a process of its own.

    Args:
        images: predictions of each run; the smaller runs have a tenth of them.
        repeat: unused: a comparison takes seconds.
    """
    rows: list[dict[str, str | float]] = []
    for size in (images // 10, images):
        for name in ("the same", "others"):
            with tempfile.TemporaryDirectory() as folder:
                write_run(Path(folder), 1, size, shard_images=SHARD_IMAGES)
                write_run(Path(folder), 2, size, shard_images=SHARD_IMAGES if name == "the same" else SHARD_IMAGES - 1)
                output = run_python("tests.bench.churn", folder).output
            rows.append({"images": size, "shards": name, **json.loads(output.splitlines()[-1])})
    gates = []
    for small, large in zip(rows[:2], rows[2:], strict=True):
        name = f"shards: {large['shards']}"
        gates += [
            Gate.at_most(f"{name}, CPU-seconds", float(large["CPU-seconds"]), 15),
            Gate.at_most(f"{name}, MiB", float(large["MiB"]), 640),
            Gate.at_most(f"{name}, MiB against those of a tenth", float(large["MiB"]) / float(small["MiB"]), GROWTH),
        ]
    return Result("churn", "Two runs compared, without pictures", rows, gates)


def write_run(folder: Path, number: int, images: int, *, shard_images: int) -> None:
    """Write a finished run; of the second one, some labels are others than of the first.

    Args:
        folder: gets the output. There is no archive.
        number: 1 or 2.
        images: number of predictions.
        shard_images: size of a shard.
    """
    store = Store(str(folder / "output"))
    random = np.random.default_rng(0)
    labels = random.integers(0, len(CLASSES), images)
    is_changed = random.random(images) < CHANGED
    if number == 2:
        labels = np.where(is_changed, (labels + 1 + random.integers(0, 9, images)) % len(CLASSES), labels)
    starts = range(0, images, shard_images)
    features = [feature_part("features/0/0", f"{shard_images:08x}{start:08x}") for start in starts]
    parts = prediction_parts(f"predictions/{number}", features)
    for part, start in zip(parts, starts, strict=True):
        store.put(part, write_parquet(_rows(start, labels[start : start + shard_images])))
    plan = RunPlan(
        kind="classification",
        job="many",
        classes=len(CLASSES),
        features=tuple(features),
        archive=ArchiveSummary(images=images, shards=len(parts), skipped=0, skipped_examples=()),
        classifier=f"classifiers/gda/{number:016x}",
        predictions=tuple(parts),
    )
    counts = {"images": images, "ok": images, "abstained": 0, "unreadable": 0, "labels": dict.fromkeys(CLASSES, 1)}
    scores = {"score_histogram": {"ok": [1] * 20, "abstained": [0] * 20}}
    job = Job(job=JobSection(name="many", output=store.root), archive=ArchiveSection(uri=str(folder / "archive")))
    store.put(f"{plan.classifier}/{CARD}", to_json({"classes": list(CLASSES), "files": {}}))
    store.put(f"runs/{number}/{PLAN}", plan.to_bytes())
    store.put(f"runs/{number}/{METRICS}", to_json(METRICS_BY_HAND | counts | scores))
    store.put(f"runs/{number}/{JOB}", sealed_job_file(job))


def _rows(start: int, labels: np.ndarray) -> pa.Table:
    """Return the predictions of a shard."""
    count = len(labels)
    score = np.random.default_rng(start).random(count, dtype=np.float32)
    values: dict[str, Any] = {
        "image": [f"{(start + row) // 1000:05}/{start + row:09}.jpg" for row in range(count)],
        "label": [CLASSES[label] for label in labels],
        "score": score,
        "margin": score,
        "top_labels": [[CLASSES[label], CLASSES[label - 1]] for label in labels],
        "top_scores": [[each, (1.0 - each) / 2] for each in score.tolist()],
        "decided_by": ["gda"] * count,
        "status": ["ok"] * count,
        "source": [""] * count,
    }
    columns = [
        pa.array(values[item.name], item.type) if item.name in values else pa.nulls(count, item.type) for item in SCHEMA
    ]
    return pa.table(columns, schema=SCHEMA)


def _main(folder: Path) -> None:
    store = Store(str(folder / "output"))
    former, present = (_run(store, number) for number in (1, 2))
    begin, cpu = time.monotonic(), time.process_time()
    churn = write_churn(former, present)
    row = {"seconds": time.monotonic() - begin, "CPU-seconds": time.process_time() - cpu, "MiB": _peak()}
    sys.stdout.write(json.dumps(row | {"changed": churn.share}) + "\n")


def _run(store: Store, number: int) -> Run:
    found = read_run(store, f"runs/{number}")
    assert found is not None
    return found


def _peak() -> float:
    """Return the most memory that this process has held, in MiB; `getrusage` counts what its parent held as well."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / MIB


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
