"""Pages of `fewshot review` over many predictions: building the index, and each kind of page, over the application."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa

from cluster import Store
from ray_jobs.labels.labelled_archive import LabelledArchive
from ray_jobs.output.feature_parts import write_parquet
from ray_jobs.output.predictions import SCHEMA
from ray_jobs.review.prediction_index import PredictionIndex, open_index
from ray_jobs.review.review_session import ReviewSession
from tests.bench.result import Gate, Result
from tests.ray_jobs.review.reviewed_run import browser, pictures
from tests.ray_jobs.written_run import RUN, WrittenRun

CLASSES, SHARD_IMAGES, TOP = 200, 256, 5
ANSWERED = 20_000
"""Images that have a label already."""


def run(*, images: int, repeat: int) -> Result:
    """Write predictions, index them, and walk through pages.

    Args:
        images: number of predictions.
        repeat: pages of each kind, times ten.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written = WrittenRun(folder).write(pictures(4))
        archive = LabelledArchive.open(written.store.url(RUN))
        parts = list(_write_parts(archive.store, images))
        large = replace(archive.run, plan=replace(archive.run.plan, predictions=tuple(parts)))
        held, began, before = _memory_mib("VmRSS"), time.perf_counter(), time.process_time()
        index = PredictionIndex(path := open_index(large, folder / "indexes"))
        wall_s, cpu_s, memory = time.perf_counter() - began, time.process_time() - before, _memory_mib("VmHWM") - held
        keys = [_key(number) for number in range(0, images, max(1, images // ANSWERED))]
        index.set_answered(added=keys, removed=())
        session = ReviewSession(replace(archive, run=large), index, by="bench")
        with _without_pictures():
            rows = [_pages(session, kind, 10 * repeat) for kind in ("kind=class&name=class+007", "kind=least")]
        build = {
            "page": "index",
            "median ms": 1000 * wall_s,
            "worst ms": 1000 * wall_s,
            "CPU ms": 1000 * cpu_s,
            "more MiB": memory,
        }
        mib = path.stat().st_size / 2**20
    title = f"{images:,} predictions, {len(keys):,} answered; index of {mib:.0f} MiB"
    worst = max(float(row["worst ms"]) for row in rows)
    return Result("review", title, [build, *rows], [Gate.at_most("worst page, ms", worst, 200)])


def _key(number: int) -> str:
    return f"photos/{number // 1000:05}/image_{number:08}.jpg"


def _write_parts(store: Store, images: int) -> Iterator[str]:
    rng = np.random.default_rng(0)
    names = np.array([f"class {label:03}" for label in range(CLASSES)], object)
    for start in range(0, images, SHARD_IMAGES):
        count = min(SHARD_IMAGES, images - start)
        top = np.argsort(rng.random((count, CLASSES)), axis=1)[:, :TOP]
        scores = -np.sort(-rng.dirichlet(np.full(TOP, 0.3), count), axis=1).astype(np.float32)
        ends = pa.array(np.arange(count + 1) * TOP, pa.int32())
        columns = {
            "image": pa.array([_key(start + place) for place in range(count)]),
            "label": pa.array(names[top[:, 0]]),
            "score": pa.array(scores[:, 0]),
            "margin": pa.array(scores[:, 0] - scores[:, 1]),
            "top_labels": pa.ListArray.from_arrays(ends, pa.array(names[top.reshape(-1)])),
            "top_scores": pa.ListArray.from_arrays(ends, pa.array(scores.reshape(-1))),
            "decided_by": pa.array(["tip_adapter"] * count),
            "classifier": pa.array(["tip_adapter/0"] * count),
            "status": pa.array(["ok"] * count),
            "error": pa.nulls(count, pa.string()),
            "source": pa.array([""] * count),
        }
        path = f"predictions/large/part-{start:016x}.parquet"
        store.put(path, write_parquet(pa.table(columns, schema=SCHEMA)))
        yield path


@contextmanager
def _without_pictures() -> Iterator[None]:
    """There are none: pages are measured, and pictures are read by other threads."""
    with patch("ray_jobs.review.thumbnails.ImageCache.prefetch"):
        yield


def _pages(session: ReviewSession, query: str, count: int) -> dict[str, str | float]:
    client, url, times = browser(session), f"/screen?{query}", []
    held, before = _memory_mib("VmRSS"), time.process_time()
    for _ in range(count):
        began = time.perf_counter()
        page = client.get(url).text
        times.append(time.perf_counter() - began)
        url = page.partition('data-next="')[2].partition('"')[0].replace("&amp;", "&")
    cpu_s = (time.process_time() - before) / count
    kind = query.partition("&")[0].removeprefix("kind=")
    return {
        "page": kind,
        "median ms": 1000 * float(np.median(times)),
        "worst ms": 1000 * max(times),
        "CPU ms": 1000 * cpu_s,
        "more MiB": _memory_mib("VmHWM") - held,
    }


def _memory_mib(name: str) -> float:
    """Memory of this process now ("VmRSS"), and the most that it has held since that was asked for ("VmHWM")."""
    if name == "VmRSS":
        Path("/proc/self/clear_refs").write_text("5")
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields[name].split()[0]) / 2**10
