"""Passes over an archive with features and predictions that a test chooses, each with a run of its own."""

from __future__ import annotations

import posixpath
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_jobs.output.feature_parts import write_parquet
from ray_jobs.output.layout import PLAN
from ray_jobs.output.predictions import SCHEMA
from ray_jobs.output.runs import open_run
from ray_jobs.suggestion.embedded_run import EmbeddedRun
from tests.ray_jobs.suggestion.embedded_output import write_embedded

DIM = 6
FIRST = datetime(2026, 11, 1, 3, tzinfo=UTC)


def rows(count: int, seed: int, *, away: float = 0.0) -> dict[str, list[float]]:
    """Images with random features; `away` moves them."""
    features = np.random.default_rng(seed).normal(size=(count, DIM)) + away * np.eye(DIM)[0]
    return {f"{seed}_{number:03}.png": row.tolist() for number, row in enumerate(features.astype(np.float32))}


@dataclass
class Passes:
    """An output, and a clock that a test sets."""

    folder: Path
    now: datetime = FIRST
    runs: list[str] = field(default_factory=list)

    def clock(self) -> datetime:
        return self.now

    def days(self, count: float) -> None:
        self.now += timedelta(days=count)

    def write(
        self,
        images: Mapping[str, list[float]],
        labels: Mapping[str, str] | None = None,
        *,
        classifier: int = 1,
        limit: str = "all",
        learned: Collection[str] = (),
        withheld: Collection[str] = (),
    ) -> EmbeddedRun:
        """Write a complete run over an archive with these images; its folder is its own.

        Args:
            images: features by image.
            labels: predicted classes; others are "amber".
            classifier: number of the classifier.
            limit: stands for the thresholds with which it predicts: part of the name of the predictions.
            learned: images that the classifier learned from.
            withheld: images whose label is withheld.
        """
        shutil.rmtree(self.folder / "archive", ignore_errors=True)
        predictions = {image: ((labels or {}).get(image, "amber"), 0.9) for image in images}
        written = write_embedded(self.folder, images, predictions=predictions)
        runs = self.folder / "output" / "runs"
        name = f"pass-{len(self.runs) + 1}"
        (runs / "by-hand").rename(runs / name)
        self.runs.append(name)
        url, folder = written.store.url(f"runs/{name}"), written.store.url(f"classifiers/gda/{classifier:016x}")
        plan = open_run(url).plan
        named = [f"predictions/{classifier}-{limit}/{posixpath.basename(part)}" for part in plan.predictions]
        for part, path in zip(plan.predictions, named, strict=True):
            table = pq.read_table(pa.BufferReader(written.store.get(part))).to_pylist()
            rows = [row | ({"label": None, "status": "abstained"} if row["image"] in withheld else {}) for row in table]
            written.store.put(path, write_parquet(pa.Table.from_pylist(rows, SCHEMA)))
        plan = replace(plan, classifier=folder, predictions=tuple(named), learned_from=tuple(sorted(learned)) or None)
        written.store.put(f"runs/{name}/{PLAN}", plan.to_bytes())
        return EmbeddedRun.open(url)
