"""Two finished runs of an archive, written by hand from rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from cluster import Store, fingerprint
from ray_jobs.classification.metrics import FAILURE_SCHEMA
from ray_jobs.job_file.sections import ArchiveSection, Job, JobSection
from ray_jobs.output.feature_parts import write_parquet
from ray_jobs.output.latest_runs import record_latest
from ray_jobs.output.layout import CARD, FAILURES, JOB, METRICS, PLAN, feature_part, prediction_parts, to_json
from ray_jobs.output.predictions import SCHEMA, PredictionOrigin
from ray_jobs.output.runs import Run, read_run, sealed_job_file
from ray_jobs.results import ArchiveSummary, RunPlan
from tests.ray_jobs.written_run import CLASSES, METRICS_BY_HAND

Row = dict[str, Any]
FORMER, PRESENT = "runs/groceries-000000000001", "runs/groceries-000000000002"


def row(image: str, label: str | None, score: float | None = 0.75, *, source: str = "") -> Row:
    """Return a prediction; of a label that is a status ("abstained", "unknown", "unreadable"), one that is withheld."""
    status = label if label in ("abstained", "unknown", "unreadable") else "ok"
    guess = CLASSES[0] if status != "ok" else label
    return {
        "image": image,
        "label": label if status == "ok" else None,
        "score": None if status == "unreadable" else score,
        "top_labels": None if status == "unreadable" else [guess],
        "status": status,
        "error": "truncated" if status == "unreadable" else None,
        "source": source,
    }


def in_shards(rows: Sequence[Row], size: int) -> dict[str, list[Row]]:
    """Cut rows into shards whose names follow from their keys, as those of an archive do."""
    cut = (list(rows[start : start + size]) for start in range(0, len(rows), size))
    return {fingerprint([each["image"] for each in part]): part for part in cut}


@dataclass(frozen=True)
class TwoRuns:
    """An output with two runs of a job over an archive.

    Attributes:
        folder: of everything; the archive is "archive" in it, if it is there at all.
        classes: of both runs, unless a run has others.
        shard_images: of the archive.
    """

    folder: Path
    classes: Sequence[str] = CLASSES
    shard_images: int = 256
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "store", Store(str(self.folder / "output")))

    @property
    def archive(self) -> ArchiveSection:
        return ArchiveSection(uri=str(self.folder / "archive"), shard_images=self.shard_images)

    @property
    def job(self) -> Job:
        return Job(job=JobSection(name="groceries", output=self.store.root), archive=self.archive)

    def write(
        self,
        run: str,
        shards: Mapping[str, Sequence[Row]],
        *,
        number: int,
        classes: Sequence[str] | None = None,
        complete: bool = True,
        learned_from: tuple[str, ...] | None = None,
    ) -> Run:
        """Write a run.

        Args:
            run: its folder.
            shards: rows by fingerprint of the shard.
            number: of its classifier.
            classes: of its classifier.
            complete: whether the run is.
            learned_from: see `RunPlan`.
        """
        rows = [each for part in shards.values() for each in part]
        features = [feature_part("features/0/0", shard) for shard in shards]
        parts = prediction_parts(f"predictions/{number:016x}", features)
        metadata = PredictionOrigin(archive=self.archive.uri, archive_kind="folder").metadata()
        schema = SCHEMA.with_metadata(metadata)
        for path, part in zip(parts, shards.values(), strict=True):
            self.store.put(path, write_parquet(pa.Table.from_pylist([dict(each) for each in part], schema)))
        plan = RunPlan(
            kind="classification",
            job="groceries",
            classes=len(classes or self.classes),
            features=tuple(features),
            archive=ArchiveSummary(images=len(rows), shards=len(shards), skipped=0, skipped_examples=()),
            classifier=f"classifiers/gda/{number:016x}",
            predictions=tuple(parts),
            learned_from=learned_from,
        )
        statuses = Counter(each["status"] for each in rows)
        counted: dict[str, Any] = {"images": len(rows), "complete": complete}
        counted |= {status: statuses[status] for status in ("ok", "abstained", "unreadable")}
        counted |= {"score_histogram": {"ok": [0] * 20, "abstained": [0] * 20}}
        counted |= {"labels": dict(Counter(each["label"] for each in rows if each["label"]))}
        self.store.put(f"{plan.classifier}/{CARD}", to_json({"classes": list(classes or self.classes), "files": {}}))
        self.store.put(f"{run}/{PLAN}", plan.to_bytes())
        self.store.put(f"{run}/{METRICS}", to_json(METRICS_BY_HAND | counted))
        self.store.put(f"{run}/{FAILURES}", write_parquet(FAILURE_SCHEMA.empty_table()))
        self.store.put(f"{run}/{JOB}", sealed_job_file(self.job))
        if complete:
            record_latest(self.store, "groceries", "classification", run)
        found = read_run(self.store, run)
        assert found is not None
        return found

    def both(self, before: Sequence[Row], after: Sequence[Row], *, size: int = 4) -> tuple[Run, Run]:
        """Write both runs in shards of some images."""
        former = self.write(FORMER, in_shards(before, size), number=1)
        return former, self.write(PRESENT, in_shards(after, size), number=2)
