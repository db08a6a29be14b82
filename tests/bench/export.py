"""Exports of more and more predictions: the peak of memory of a process that writes one, its time and its bytes."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cluster import Store
from cluster.records import read_shard
from ray_jobs.console.progress import Reporter
from ray_jobs.export.export_run import ExportRequest, export_run
from ray_jobs.inputs.archive import open_archive
from ray_jobs.job_file.sections import ArchiveSection, Job, JobSection
from ray_jobs.output.feature_parts import write_parquet
from ray_jobs.output.layout import JOB, METRICS, PLAN, feature_part, prediction_parts, to_json
from ray_jobs.output.predictions import SCHEMA, PredictionOrigin
from ray_jobs.output.runs import sealed_job_file
from ray_jobs.results import ArchiveSummary, RunPlan
from tests.bench.result import Gate, Result
from tests.bench.usage import run_python
from tests.ray_jobs.written_run import METRICS_BY_HAND
from tests.strange_files import encode

CLASSES = tuple(f"class {index:03}" for index in range(100))
SHARD_IMAGES, MIB, GROWTH = 4096, 2**20, 1.2
RUN = "runs/many"
PIXELS = (2, 2)
"""Of the images: what is measured is not decoding."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to export.

    Attributes:
        to: name of the format.
        links: whether images are linked to.
        is_file_an_image: whether it writes a file for each image: then it has a tenth of the rows.
    """

    to: str
    links: bool = False
    is_file_an_image: bool = False

    @property
    def name(self) -> str:
        return f"{self.to} --links" if self.links else self.to


CONTENDERS = (
    Contender("csv"),
    Contender("jsonl"),
    Contender("coco"),
    Contender("imagefolder", links=True),
    Contender("fiftyone", links=True),
    Contender("labelstudio", links=True),
    Contender("imagefolder", is_file_an_image=True),
    Contender("huggingface", is_file_an_image=True),
    Contender("fiftyone", is_file_an_image=True),
    Contender("labelstudio", is_file_an_image=True),
    Contender("xmp", is_file_an_image=True),
)


def run(*, images: int, repeat: int, contenders: Sequence[Contender] = CONTENDERS) -> Result:
    """Export runs of three sizes, each in a process of its own.

    Args:
        images: rows of the largest run; the others have a tenth and a hundredth of it.
        repeat: unused: memory does not vary.
        contenders: what is exported to.
    """
    rows, gates, peaks = list[dict[str, str | float]](), list[Gate](), dict[str, float]()
    with tempfile.TemporaryDirectory() as folder:
        sizes = (images // 100, images // 10, images)
        for size in sizes:
            if not (own := [each for each in contenders if not (each.is_file_an_image and size == images)]):
                continue
            place = Path(folder) / str(size)
            write_runs(place, size)
            for each in own:
                measured = _measured(place, each)
                rows.append({"format": each.name, "rows": f"{size:,}", **measured})
                largest = size == (images // 10 if each.is_file_an_image else images)
                if largest:
                    ratio = float(measured["peak MiB"]) / peaks[each.name]
                    gates.append(Gate.at_most(f"{each.name}: peak against that of a tenth", ratio, GROWTH))
                peaks[each.name] = float(measured["peak MiB"])
            shutil.rmtree(place)
    title = f"Exports in processes of their own; images of {PIXELS[0]} x {PIXELS[1]} pixels in tables"
    return Result("export", title, sorted(rows, key=lambda row: str(row["format"])), gates)


def _measured(place: Path, each: Contender) -> dict[str, float]:
    """Export in a new process, and remove what it wrote."""
    out = place / "out"
    source = "folder" if each.links else "table"
    usage = run_python("tests.bench.export", place / source, each.to, out, int(each.links))
    if out.is_dir():
        shutil.rmtree(out)
    else:
        out.unlink()
    found: dict[str, float] = json.loads(usage.output.splitlines()[-1])
    return found


def write_runs(folder: Path, images: int) -> None:
    """Write two finished runs: "table" over a table of images, "folder" over a folder that is not there.

    Only what reads images needs the first one; only what links to them needs the second.
    """
    folder.mkdir()
    archive = _write_archive(folder / "images.parquet", images)
    shards = list(open_archive(archive).shards())
    tables = Store(str(folder / "table" / "output")), Store(str(folder / "folder" / "output"))
    labels = [prediction_parts("predictions/many", [feature_part("f", shard.fingerprint)])[0] for shard in shards]
    start = 0
    for shard, part in zip(shards, labels, strict=True):
        found = [(record.key, record.source) for record in read_shard(shard)]
        keys = [key for key, _ in found]
        sources = [source for _, source in found]
        for store, kind, own in zip(tables, ("parquet", "folder"), (sources, [""] * len(keys)), strict=True):
            origin = PredictionOrigin(archive=archive.uri, archive_kind=kind)
            store.put(part, write_parquet(_predictions(start, keys, own, origin)))
        start += len(keys)
    for store in tables:
        _write_about(store, archive, images, labels)


def _write_archive(path: Path, images: int) -> ArchiveSection:
    data = encode(Image.new("RGB", PIXELS), "PNG")
    schema = pa.schema({"key": pa.string(), "image": pa.binary()})
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, images, SHARD_IMAGES):
            keys = [f"{start // SHARD_IMAGES:05}/{row:09}.png" for row in _rows(start, images)]
            writer.write_table(pa.table({"key": keys, "image": [data] * len(keys)}, schema))
    return ArchiveSection(uri=str(path), shard_images=SHARD_IMAGES)


def _rows(start: int, images: int) -> Iterator[int]:
    return iter(range(start, min(start + SHARD_IMAGES, images)))


def _predictions(start: int, keys: Sequence[str], sources: Sequence[str], origin: PredictionOrigin) -> pa.Table:
    count = len(keys)
    labels = [CLASSES[(start + row) % len(CLASSES)] for row in range(count)]
    score = np.random.default_rng(start).random(count, dtype=np.float32)
    values: dict[str, Any] = {
        "image": keys,
        "label": labels,
        "score": score,
        "margin": score,
        "top_labels": [[label, CLASSES[0]] for label in labels],
        "top_scores": [[each, 0.0] for each in score.tolist()],
        "decided_by": ["gda"] * count,
        "classifier": ["gda/0123456789ab"] * count,
        "status": ["ok"] * count,
        "source": sources,
    }
    columns = [pa.array(values.get(each.name, [None] * count), each.type) for each in SCHEMA]
    return pa.table(columns, schema=SCHEMA.with_metadata(origin.metadata()))


def _write_about(store: Store, archive: ArchiveSection, images: int, parts: Sequence[str]) -> None:
    job = Job(job=JobSection(name="many", output=store.root), archive=archive)
    summary = ArchiveSummary(images=images, shards=len(parts), skipped=0, skipped_examples=())
    plan = RunPlan(
        kind="classification",
        job="many",
        classes=len(CLASSES),
        features=(),
        archive=summary,
        predictions=tuple(parts),
    )
    bins = {status: [0] * 20 for status in ("ok", "abstained")}
    counted = {"images": images, "ok": images, "abstained": 0, "unreadable": 0, "score_histogram": bins}
    metrics = METRICS_BY_HAND | counted | {"labels": dict.fromkeys(CLASSES, 1)}
    for name, data in {PLAN: plan.to_bytes(), METRICS: to_json(metrics), JOB: sealed_job_file(job)}.items():
        store.put(f"{RUN}/{name}", data)


def _main(folder: str, to: str, out: str, links: str) -> None:
    begin, cpu = time.monotonic(), time.process_time()
    request = ExportRequest(format=to, out=out, links=bool(int(links)))
    result = export_run(f"{folder}/output/{RUN}", request, reporter=Reporter())
    assert result.complete, result
    found = {
        "peak MiB": _peak_bytes() / MIB,
        "seconds": time.monotonic() - begin,
        "CPU-seconds": time.process_time() - cpu,
        "MiB written": sum(path.stat().st_size for path in _files(Path(out))) / MIB,
    }
    sys.stdout.write(json.dumps(found) + "\n")


def _peak_bytes() -> int:
    """Most memory that this process had in RAM: `getrusage` counts that of the process that started it, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def _files(place: Path) -> Iterator[Path]:
    return (path for path in ([place] if place.is_file() else place.rglob("*")) if path.is_file())


if __name__ == "__main__":
    _main(*sys.argv[1:])
