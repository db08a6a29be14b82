"""A finished run written by hand: an archive, examples, and all that `classify` leaves, without a backbone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster import Store
from cluster.records import read_shard
from ray_jobs.classification.metrics import FAILURE_SCHEMA
from ray_jobs.escalation.decided_images import GAPS_SCHEMA
from ray_jobs.inputs.archive import open_archive
from ray_jobs.job_file.sections import ArchiveSection, Job, JobSection, SupportSection
from ray_jobs.output.feature_parts import write_parquet
from ray_jobs.output.layout import (
    FAILURES,
    GAPS,
    JOB,
    METRICS,
    PLAN,
    feature_part,
    prediction_parts,
    to_json,
)
from ray_jobs.output.predictions import SCHEMA, PredictionOrigin
from ray_jobs.output.runs import sealed_job_file
from ray_jobs.results import ArchiveSummary, RunPlan
from tests.cluster.records.archives import tar_bytes, write_folder, zip_bytes

RUN, LABELS = "runs/by-hand", "predictions/by-hand"
CLASSES = ("amber", "blue", "cyan")
MEASURED = {
    "measured": {
        "labelled_images": 8,
        "accuracy": 0.75,
        "macro_f1": 0.7,
        "ece": 0.125,
        "coverage": 0.5,
        "accuracy_of_accepted": 1.0,
    },
    "reliability": {"rows": [0, 4, 0, 4], "correct": [0, 2, 0, 4], "confidence": [0.0, 1.2, 0.0, 3.8]},
}
ESCALATED = {
    "method": "tif",
    "images": 3,
    "labels_changed": 2,
    "forwards": 600,
    "forwards_if_exhaustive": 2400,
    "time_steps": 100,
    "classes": 3,
    "trained_classes": 3,
    "calibration": {"images": 4, "accuracy": 0.75, "temperature": 0.02},
    "measured": None,
}
CASCADES = {
    "labelled_images": 2,
    "corrected": 2,
    "spoiled": 1,
    "accuracy_before": 0.625,
    "accuracy": 0.75,
    "curve": [
        {"images": 0, "fraction": 0.0, "forwards_an_image": 0.0, "accuracy": 0.625},
        {"images": 1, "fraction": 0.1, "forwards_an_image": 30.0, "accuracy": 0.875},
        {"images": 3, "fraction": 0.3, "forwards_an_image": 60.0, "accuracy": 0.75},
    ],
}
GAPS_BY_HAND = [0.0, 0.5, -0.25, *[0.125] * 6, 0.0]
METRICS_BY_HAND: dict[str, Any] = {
    "format_version": 2,
    "complete": True,
    "failed_units": 0,
    "too_many_unreadable": False,
    "given_labels": None,
    "mean_score": 0.5,
    "measured": None,
    "reliability": None,
    "skipped_entries": 0,
    "skipped_examples": [],
    "unreadable_examples": {"examples": 0, "such_as": [], "classes": []},
    "method": "tip_adapter",
    "hyperparameters": {"alpha": 1.0},
    "temperature": 2.0,
    "spread_power": 0.5,
    "least_spread": 3.0,
    "threshold": 0.3,
    "escalated": None,
    "held_out": {
        "source": "folds",
        "images": 12,
        "accuracy": 0.625,
        "ece_after": 0.0625,
        "max_error": 0.2,
        "confidence": 0.9,
        "coverage": 0.5,
    },
    "versions": {"fewshot": "0"},
    "labelled_shares": [
        {"max_error": 0.1, "needed": 22, "threshold": None, "held_out_share": 0.0, "archive_share": 0.0},
        {"max_error": 0.3, "needed": 7, "threshold": 0.2, "held_out_share": 0.875, "archive_share": 0.8125},
    ],
    "part_bytes": [],
}


@dataclass(frozen=True)
class WrittenRun:
    """A folder with an archive and the output of a run over it.

    Attributes:
        folder: of everything.
        classes: labels that images get in turn.
        metrics: what `metrics.json` says differently from `METRICS_BY_HAND`.
        escalated: images that a diffusion model decided, the least certain first: the label of every second one
            changed, the first one was scored at every time-step of every class.
        has_scores: whether the classifier is calibrated.
        given: by key, labels to measure with.
        max_image_bytes: of the archive.
    """

    folder: Path
    classes: Sequence[str] = CLASSES
    metrics: Mapping[str, Any] = field(default_factory=dict)
    escalated: Sequence[str] = ()
    has_scores: bool = True
    given: Mapping[str, str] = field(default_factory=dict)
    max_image_bytes: int = 256 << 20

    @property
    def store(self) -> Store:
        return Store(str(self.folder / "output"))

    @property
    def job(self) -> Job:
        return Job(
            job=JobSection(name="by-hand", output=self.store.root),
            archive=ArchiveSection(
                uri=str(self.folder / "archive"),
                labels=str(self.folder / "given.csv") if self.given else None,
                max_image_bytes=self.max_image_bytes,
            ),
            support=SupportSection(uri=str(self.folder / "examples.parquet")),
        )

    def write(
        self, images: Mapping[str, bytes], *, kind: str = "folder", broken: Mapping[str, str] | None = None
    ) -> WrittenRun:
        """Write the archive, one example a class, and predictions: the later an image, the lower its score.

        Args:
            images: key -> content, in the archive's order.
            kind: of archive.
            broken: key -> reason, of those that cannot be read.
        """
        write_archive(self.folder / "archive", images, kind)
        write_folder(self.folder / "shots", {f"{i}.png": next(iter(images.values())) for i in range(len(self.classes))})
        table = pa.table({"image": [f"shots/{i}.png" for i in range(len(self.classes))], "label": list(self.classes)})
        pq.write_table(table, self.folder / "examples.parquet")
        rows = ["image,label", *(f"{image},{label}" for image, label in self.given.items())]
        (self.folder / "given.csv").write_text("\n".join(rows))
        self._write_results(len(images), broken or {})
        return self

    def _write_results(self, images: int, broken: Mapping[str, str]) -> None:
        assert self.job.archive is not None
        rows: list[dict[str, Any]] = []
        shards = list(open_archive(self.job.archive).shards())
        for index, shard in enumerate(shards):
            part = [
                self._row(record.key, len(rows) + i, images, broken) | {"source": record.source}
                for i, record in enumerate(read_shard(shard))
            ]
            self.store.put(feature_part(LABELS, shard.fingerprint), write_parquet(self._table(part)))
            places = {row["image"]: (index, place) for place, row in enumerate(part)}
            rows += [row | {"place": places[row["image"]]} for row in part]
        self._write_about(rows, [feature_part("features/0/0", shard.fingerprint) for shard in shards])

    def _table(self, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        archive = self.job.archive
        assert archive is not None
        origin = PredictionOrigin(archive=archive.uri, archive_kind=open_archive(archive).kind)
        return pa.Table.from_pylist([dict(row) for row in rows], SCHEMA.with_metadata(origin.metadata()))

    def _row(self, key: str, position: int, images: int, broken: Mapping[str, str]) -> dict[str, Any]:
        if key in broken:
            return {"image": key, "status": "unreadable", "error": broken[key], "source": ""}
        score = 1.0 - (position + 0.5) / images
        first, second = (self.classes[(position + i) % len(self.classes)] for i in range(2))
        if key in self.escalated:
            labels = [first, second] if self.escalated.index(key) % 2 else [second, first]
            decided = {"label": labels[0], "margin": 0.5, "top_labels": labels, "decided_by": "tif", "status": "ok"}
            return {"image": key, "score": None, "top_scores": None, **decided}
        return {
            "image": key,
            "label": first if score >= METRICS_BY_HAND["threshold"] else None,
            "score": score if self.has_scores else None,
            "top_labels": [first, second],
            "top_scores": [score, (1.0 - score) / 2] if self.has_scores else None,
            "margin": (3.0 * score - 1.0) / 2,
            "decided_by": "tip_adapter",
            "status": "ok" if score >= METRICS_BY_HAND["threshold"] else "abstained",
        }

    def _write_about(self, rows: Sequence[Mapping[str, Any]], features: Sequence[str]) -> None:
        broken = [row | {"kind": "image"} for row in rows if row["status"] == "unreadable"]
        archive = ArchiveSummary(images=len(rows), shards=1, skipped=0, skipped_examples=())
        count = len(self.classes)
        plan = RunPlan(
            kind="classification",
            job="by-hand",
            classes=count,
            features=tuple(features),
            archive=archive,
            examples=count,
            predictions=tuple(prediction_parts(LABELS, features)),
        )
        self.store.put(f"{RUN}/{PLAN}", plan.to_bytes())
        self.store.put(f"{RUN}/{METRICS}", to_json(self._metrics(rows)))
        self.store.put(f"{RUN}/{FAILURES}", write_parquet(pa.Table.from_pylist(broken, FAILURE_SCHEMA)))
        self.store.put(f"{RUN}/{GAPS}", write_parquet(pa.Table.from_pylist(self._gaps(rows), GAPS_SCHEMA)))
        self.store.put(f"{RUN}/{JOB}", sealed_job_file(self.job))

    def _gaps(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        by_image = {row["image"]: row for row in rows}
        return [self._gap(rank, by_image[image]) for rank, image in enumerate(self.escalated)]

    def _gap(self, rank: int, row: Mapping[str, Any]) -> dict[str, Any]:
        label, runner_up = row["top_labels"]
        return {
            "image": row["image"],
            "part": row["place"][0],
            "row": row["place"][1],
            "cheap_label": label if rank % 2 else runner_up,
            "cheap_score": 0.25,
            "label": label,
            "runner_up": runner_up,
            "margin": row["margin"],
            "forwards": 100 * (rank + 1),
            "gaps": [gap / (rank + 1) for gap in GAPS_BY_HAND],
            "counts": [10 if gap and (rank == 0 or i < 3) else 0 for i, gap in enumerate(GAPS_BY_HAND)],
        }

    def _metrics(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        labels = [row["top_labels"][0] for row in rows if "top_labels" in row]
        scored = [row for row in rows if row.get("score") is not None]
        bins = {
            status: [sum(int(20 * row["score"]) == i for row in scored if row["status"] == status) for i in range(20)]
            for status in ("ok", "abstained")
        }
        statuses = [row["status"] for row in rows]
        counts = {status: statuses.count(status) for status in ("ok", "abstained", "unreadable")}
        counted = {"images": len(rows), **counts, "score_histogram": bins}
        return METRICS_BY_HAND | counted | {"labels": dict(Counter(labels).most_common())} | self.metrics


def write_archive(folder: Path, images: Mapping[str, bytes], kind: str) -> None:
    """The same images as an archive of one kind or another."""
    if kind == "folder":
        write_folder(folder, images)
    elif kind == "tar":
        write_folder(folder, {"all.tar": tar_bytes(images.items())})
    elif kind == "zip":
        write_folder(folder, {"all.zip": zip_bytes(images.items())})
    else:
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"key": list(images), "image": list(images.values())}), folder / "all.parquet")
