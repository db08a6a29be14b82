"""What a run amounts to, counted over its parts one at a time: metrics, and the list of what could not be read."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster import StageReport, Store
from ray_jobs.escalation.cost_curve import measure_cascades
from ray_jobs.inputs.archive import Listing
from ray_jobs.inputs.ground_truth import read_truth
from ray_jobs.job_file.sections import Job
from ray_jobs.output.classifiers import get_classifier, get_unreadable_examples
from ray_jobs.output.feature_parts import get_table
from ray_jobs.output.layout import FAILURES, METRICS, PREDICTIONS, to_json

if TYPE_CHECKING:
    from fewshot.evaluation.metrics import Tally

FAILURE_SCHEMA = pa.schema([(name, pa.string()) for name in ("kind", "image", "source", "error")])
STATUSES = ("ok", "abstained", "unreadable")
COLUMNS = ["image", "label", "score", "status", "error", "source"]
SCORE_BINS = 20
"""Equal-width bins of the histogram of scores."""


def summarise(
    store: Store,
    run: str,
    job: Job,
    listing: Listing,
    classifier: str,
    stages: Sequence[StageReport],
    escalated: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Count a run's predictions and write `failures.parquet` and, last, `metrics.json`.

    Args:
        store: the output.
        run: the run's folder.
        job: the job file.
        listing: what the archive held.
        classifier: the classifier's folder.
        stages: what became of the units.
        escalated: what the diffusion model was asked and said; None if there was none.

    Returns:
        the metrics.
    """
    calibrated = get_classifier(store, classifier, job.clip.spec)
    given = job.archive.labels if job.archive is not None else None
    truth = read_truth(given, calibrated.class_names, store.storage) if given else None
    counting = _Counting(calibrated.class_names, truth)
    failed = [failure for stage in stages for failure in stage.failures]
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, FAILURE_SCHEMA, compression="zstd") as failures:
        for failure in failed:
            failures.write_table(_failures([("unit", failure.path, "", failure.error)]))
        for part in store.list(f"{run}/{PREDICTIONS}"):
            failures.write_table(counting.add(get_table(store, part, columns=COLUMNS)))
    store.put(f"{run}/{FAILURES}", buffer.getvalue())
    metrics = {
        "complete": not failed and counting.parts == len(listing.shards),
        "failed_units": len(failed),
        "too_many_unreadable": too_many_unreadable(job, counting.status),
        **counting.to_json(),
        "skipped_entries": listing.skipped,
        "skipped_examples": list(listing.skipped_examples),
        "unreadable_examples": get_unreadable_examples(store, classifier),
        "method": type(calibrated.method).name,
        "hyperparameters": asdict(calibrated.method),  # type: ignore[call-overload]
        **asdict(calibrated.scaling),
        "threshold": calibrated.threshold,
        "held_out": asdict(calibrated.report),
        "escalated": None if escalated is None else {**escalated, "measured": counting.cascades(store, run)},
        "predictions": store.url(f"{run}/{PREDICTIONS}"),
        "run": store.url(run),
        "versions": {name: version(name) for name in ("fewshot", "torch", "open-clip-torch", "pyarrow")},
    }
    store.put(f"{run}/{METRICS}", to_json(metrics))
    return metrics


def too_many_unreadable(job: Job, counts: Mapping[str, int]) -> bool:
    """Whether more images are unreadable than the job file allows; `counts` by status."""
    images = sum(counts[status] for status in STATUSES)
    return job.archive is not None and counts["unreadable"] > job.archive.max_unreadable_fraction * images


class _Counting:
    """Counts over prediction parts; holds a number for each class, nothing for each image (but the given labels)."""

    def __init__(self, names: tuple[str, ...], truth: dict[str, int] | None) -> None:
        self.names, self.truth = names, truth
        self.index = {name: i for i, name in enumerate(names)}
        self.parts, self.scored, self.score = 0, 0, 0.0
        self.found, self.of_other_classes = 0, 0
        self.status: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.scores = {status: np.zeros(SCORE_BINS, np.int64) for status in ("ok", "abstained")}
        self.tally: Tally | None = None

    def add(self, part: pa.Table) -> pa.Table:
        """Count one part.

        Returns:
            its unreadable images.
        """
        self.parts += 1
        status = part["status"].to_pylist()
        self.status.update(status)
        self.labels.update(label for label in part["label"].to_pylist() if label is not None)
        self._count_scores(part)
        if self.truth is not None:
            self._measure(part)
        broken = part.filter(pc.equal(part["status"], "unreadable")) if "unreadable" in status else part.slice(0, 0)
        rows = zip(*(broken[name].to_pylist() for name in ("image", "source", "error")), strict=True)
        return _failures([("image", *row) for row in rows])

    def _count_scores(self, part: pa.Table) -> None:
        """What was decided without a score is in none of this."""
        told = part.filter(pc.is_valid(part["score"]))
        self.scored += len(told)
        self.score += sum(told["score"].to_pylist())
        for status, bins in self.scores.items():
            scores = told.filter(pc.equal(told["status"], status))["score"].to_numpy()
            bins += np.histogram(scores.clip(0.0, 1.0), bins=SCORE_BINS, range=(0.0, 1.0))[0]

    def _measure(self, part: pa.Table) -> None:
        import torch

        from fewshot.evaluation.metrics import Tally

        assert self.truth is not None
        known = [self.truth[image] for image in part["image"].to_pylist() if image in self.truth]
        self.found += len(known)
        self.of_other_classes += sum(label < 0 for label in known)
        rows = list(self._labelled(part))
        if not rows:
            return
        labels, predicted, scores, abstained = zip(*rows, strict=True)
        tally = Tally.from_predictions(
            torch.tensor(labels),
            torch.tensor(predicted),
            torch.tensor(scores),
            num_classes=len(self.names),
            abstained=torch.tensor(abstained),
        )
        self.tally = tally if self.tally is None else self.tally + tally

    def _labelled(self, part: pa.Table) -> Iterator[tuple[int, int, float, bool]]:
        assert self.truth is not None
        columns = (part[name].to_pylist() for name in ("image", "label", "score", "status"))
        for image, label, score, status in zip(*columns, strict=True):
            known = self.truth.get(image, -1)
            if known >= 0 and label is not None:
                yield known, self.index[label], math.nan if score is None else score, status == "abstained"

    def cascades(self, store: Store, run: str) -> dict[str, Any] | None:
        """See `measure_cascades`; None where nothing was measured."""
        if self.tally is None or self.truth is None:
            return None
        truth = {image: self.names[label] for image, label in self.truth.items() if label >= 0}
        right = int(self.tally.hits.sum())
        return measure_cascades(store, run, truth, right=right, labelled=self.tally.rows, images=self.images)

    @property
    def images(self) -> int:
        return sum(self.status.values())

    def to_json(self) -> dict[str, Any]:
        counts = {"images": self.images, **{s: self.status[s] for s in STATUSES}}
        measured: dict[str, Any] = {}
        reliability: dict[str, Any] = {}
        if self.tally is not None:
            measured = {
                "labelled_images": self.tally.rows,
                "accuracy": self.tally.accuracy,
                "macro_f1": self.tally.macro_f1,
                "ece": self.tally.ece if self.tally.bin_rows.any() else None,
                "coverage": self.tally.coverage,
                "accuracy_of_accepted": self.tally.selective_accuracy if self.tally.accepted else None,
            }
            reliability = {
                "rows": self.tally.bin_rows.tolist(),
                "correct": self.tally.bin_correct.tolist(),
                "confidence": self.tally.bin_confidence.tolist(),
            }
        given = None
        if self.truth is not None:
            given = {"given": len(self.truth), "found": self.found, "of_other_classes": self.of_other_classes}
        return {
            **counts,
            "given_labels": given,
            "mean_score": self.score / self.scored if self.scored else None,
            "measured": measured or None,
            "reliability": reliability or None,
            "score_histogram": {status: bins.tolist() for status, bins in self.scores.items()},
            "labels": dict(self.labels.most_common()),
        }


def _failures(rows: Sequence[tuple[str, str, str, str]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(FAILURE_SCHEMA)
    return pa.table([pa.array(c, pa.string()) for c in columns], schema=FAILURE_SCHEMA)
