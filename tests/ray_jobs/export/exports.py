"""Short ways to export a run in tests, and runs with many rows."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console

from ray_jobs.console.progress import Reporter
from ray_jobs.export.export_run import ExportRequest, export_run
from ray_jobs.export.filters import Filters
from ray_jobs.output.feature_parts import write_parquet
from ray_jobs.output.layout import JOB, METRICS, PLAN, to_json
from ray_jobs.output.predictions import SCHEMA
from ray_jobs.output.runs import sealed_job_file
from ray_jobs.results import ArchiveSummary, RunPlan
from ray_jobs.results.export_result import ExportResult
from tests.ray_jobs.place import picture
from tests.ray_jobs.written_run import CLASSES, METRICS_BY_HAND, RUN, WrittenRun

NAMES = ("plain.jpg", "folder/plain.jpg", "with space, comma.jpg", "quote\"'.jpg", "per%20cent.jpg", "ünïcode 画.jpg")
STRANGE = ("=1+1.jpg", "line\nend.jpg", "semi;colon|pipe.jpg", "<tag>&amp;.jpg", "back\\slash.jpg", "no suffix")


def pictures(*names: str) -> dict[str, bytes]:
    """A JPEG for each name, all of them different."""
    return {name: picture(CLASSES[index % 3], index) for index, name in enumerate(names)}


def export(
    run: WrittenRun,
    to: str,
    out: Path | str,
    *,
    links: bool = False,
    labels: bool = False,
    overwrite: bool = False,
    **filters: Any,
) -> ExportResult:
    """Export a run; nothing is shown."""
    options = {"links": links, "labels": labels, "overwrite": overwrite}
    request = ExportRequest(format=to, out=str(out), filters=Filters(**filters), **options)
    return export_run(run.store.url(RUN), request, reporter=Reporter(Console(file=io.StringIO())))


def write_rows(folder: Path, rows: int, *, part_rows: int = 500) -> WrittenRun:
    """Write the predictions of an archive that is not there, in parts of some rows each."""
    run = WrittenRun(folder)
    parts = [f"predictions/0/part-{start:016x}.parquet" for start in range(0, rows, part_rows)]
    for start, part in zip(range(0, rows, part_rows), parts, strict=True):
        table = pa.Table.from_pylist([_row(i) for i in range(start, min(rows, start + part_rows))], SCHEMA)
        run.store.put(part, write_parquet(table))
    summary = ArchiveSummary(images=rows, shards=len(parts), skipped=0, skipped_examples=())
    plan = RunPlan(kind="classification", job="by-hand", classes=3, features=(), archive=summary, predictions=(*parts,))
    bins = {status: [0] * 20 for status in ("ok", "abstained")}
    counted = {"images": rows, "ok": rows, "abstained": 0, "unreadable": 0, "score_histogram": bins}
    metrics = METRICS_BY_HAND | counted | {"labels": dict.fromkeys(CLASSES, 1)}
    for name, data in {PLAN: plan.to_bytes(), METRICS: to_json(metrics), JOB: sealed_job_file(run.job)}.items():
        run.store.put(f"{RUN}/{name}", data)
    return run


def _row(index: int) -> dict[str, Any]:
    label = CLASSES[index % len(CLASSES)]
    score = (index % 100) / 100
    about = {"top_labels": [label, "amber"], "top_scores": [score, 0.0], "margin": score, "decided_by": "tip_adapter"}
    return {"image": f"folder/image_{index:09}.jpg", "label": label, "score": score, "status": "ok", **about}
