"""The rate at which features of an archive are searched, and suggestions are made from them, in one process."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np

from cluster import Store
from fewshot.digests import check_seal
from fewshot.suggestion import LabelledRows, Sample, suggest
from ray_jobs.output.feature_parts import FeatureRows, encode
from ray_jobs.suggestion.embedded_run import EmbeddedRun, unit_rows
from ray_jobs.suggestion.hash_sample import HashSample, SampledImage
from ray_jobs.suggestion.search_images import nearest_images
from ray_jobs.suggestion.suggest_images import SAMPLE_SIZE
from tests.bench.result import Gate, Result

DIM, SHARD_IMAGES, FOUND, SUGGESTED, KINDS = 512, 256, 100, 60, 1000
GIB = 2**30


def run(*, images: int, repeat: int) -> Result:
    """Search, draw a sample and choose from it.

    Args:
        images: of the archive, whose features are random around those of `KINDS` kinds.
        repeat: not used: a million images are enough for a steady rate.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        parts = list(_write_parts(store, images))
        embedded = EmbeddedRun(_run_of(store, parts), SimpleNamespace())  # type: ignore[arg-type]
        direction = np.full(DIM, DIM**-0.5, np.float32)
        read = _measure("read, and compare with digests", images, lambda: _read(embedded))
        searched = _measure("search", images, lambda: nearest_images(embedded, direction, FOUND))
        sample = HashSample(min(images, SAMPLE_SIZE))
        drawn = _measure("draw a sample", images, lambda: _draw(embedded, sample))
        features = sample.drawn()[1]
        chosen = _measure(f"suggest {SUGGESTED} of the sample", len(features), lambda: _suggest(features))
    title = f"{images:,} images with features of {DIM} numbers; one process, features around those of 1,000 kinds"
    rate = "images / CPU-second"
    gates = [
        Gate.at_most("GiB that a search adds to the peak of memory", float(searched["GiB added to it"]), 0.5),
        Gate.at_least("rate of a search, as a share of reading", float(searched[rate]) / float(read[rate]), 0.4),
        Gate.at_most("GiB at the end, the peak of all", float(chosen["peak GiB"]), 4.0),
    ]
    return Result("search", title, [read, searched, drawn, chosen], gates)


def _write_parts(store: Store, images: int) -> Iterator[str]:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((KINDS, DIM), dtype=np.float32)
    for start in range(0, images, SHARD_IMAGES):
        count = min(SHARD_IMAGES, images - start)
        keys = [f"folder/{start + row:09}.jpg" for row in range(count)]
        kinds = (KINDS * rng.random(count) ** 2).astype(np.int64)  # Some are more frequent than others.
        views = (centres[kinds] + rng.standard_normal((count, DIM), dtype=np.float32))[:, None]
        path = f"features/0/0/part-{start:016x}.parquet"
        store.put(path, encode(FeatureRows(keys, [""] * count, [None] * count, views)))
        yield path


def _run_of(store: Store, parts: list[str]) -> SimpleNamespace:
    return SimpleNamespace(store=store, plan=SimpleNamespace(features=tuple(parts), predictions=()))


def _read(embedded: EmbeddedRun) -> None:
    """The least that a search does."""
    for _ in embedded.map_parts(lambda path: check_seal(embedded.store.get(path))):
        pass


def _draw(embedded: EmbeddedRun, sample: HashSample) -> None:
    for images, features in embedded.parts(_sampled):
        sample.offer(images, features)


def _sampled(shard: str, rows: FeatureRows) -> tuple[list[SampledImage], np.ndarray]:
    positions, features = unit_rows(rows)
    return [SampledImage(rows.images[row], "", shard, row, None, None, 1.0) for row in positions.tolist()], features


def _suggest(features: np.ndarray) -> None:
    nothing = LabelledRows(features[:0], np.zeros(0, np.int64), 0)
    suggest(Sample(features, np.ones(len(features), np.float32)), nothing, SUGGESTED)


def _measure(what: str, images: int, work: Callable[[], object]) -> dict[str, str | float]:
    before, started, wall = _peak_gib(), time.process_time(), time.monotonic()
    work()
    cpu_s, wall_s = time.process_time() - started, time.monotonic() - wall
    return {
        "work": what,
        "images": f"{images:,}",
        "images / CPU-second": images / max(cpu_s, 1e-6),
        "CPU-seconds": cpu_s,
        "seconds": wall_s,
        "peak GiB": _peak_gib(),
        "GiB added to it": _peak_gib() - before,
    }


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
