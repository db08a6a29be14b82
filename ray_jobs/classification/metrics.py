"""What a run amounts to, counted over its parts in order: metrics, and the list of what could not be read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, replace
from importlib.metadata import version
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster import StageReport, Store
from cluster.records.reading import ordered_map
from fewshot.data.example import plain_path
from ray_jobs.classification.label_set_counts import LabelSetCounts
from ray_jobs.classification.labelled_shares import labelled_shares
from ray_jobs.classification.unknown_counts import UnknownCounts
from ray_jobs.classification.unknown_plan import UnknownPlan
from ray_jobs.errors import DamagedError
from ray_jobs.escalation.cost_curve import measure_escalation
from ray_jobs.inputs.archive import Listing
from ray_jobs.inputs.ground_truth import read_ground_truth
from ray_jobs.job_file.sections import Job
from ray_jobs.output.classifiers import ClassifierRef
from ray_jobs.output.feature_parts import READERS, concat_parquet, read_parquet, removed_if_damaged
from ray_jobs.output.layout import FAILURES, METRICS, present_parts
from ray_jobs.output.predictions import LABEL_SET, best_guesses
from ray_jobs.results.classification_metrics import (
    CandidateMethod,
    ClassificationMetrics,
    GivenLabels,
    HeldOut,
    Measured,
    Reliability,
    ScoreHistogram,
)
from ray_jobs.results.error_limits import AuditedThreshold, LabelledShare
from ray_jobs.results.escalation_summary import EscalationSummary, MeasuredEscalation

if TYPE_CHECKING:
    from fewshot.calibration.calibrated_classifier import HeldOutReport
    from fewshot.evaluation.metrics import Tally

FAILURE_SCHEMA = pa.schema([(name, pa.string()) for name in ("kind", "image", "source", "error")])
COLUMNS = ["image", "top_labels", "score", "status", "error", "source"]
SCORE_BINS = 20
"""Equal-width bins of the histogram of scores."""
PACKAGES = ("fewshot", "torch", "open-clip-torch", "pyarrow")
"""Whose versions are noted."""


def summarise(
    store: Store,
    run: str,
    job: Job,
    listing: Listing,
    predictions: Sequence[str],
    classifier: ClassifierRef,
    stages: Sequence[StageReport],
    escalated: EscalationSummary | None = None,
    unknown: UnknownPlan | None = None,
    audited: AuditedThreshold | None = None,
    *,
    learned_from: Collection[str] = (),
) -> ClassificationMetrics:
    """Count a run's predictions and write `failures.parquet` and, last, `metrics.json`.

    Args:
        store: the output.
        run: the run's folder.
        job: the job file.
        listing: what the archive held.
        predictions: the run's parts, in the archive's order.
        classifier: the classifier.
        stages: what became of the units.
        escalated: what the diffusion model decided; None if nothing.
        unknown: the test of images of no class; None if no image was tested.
        audited: the audit that the threshold is from; None if it is from the examples.
        learned_from: keys of images of the archive that are examples; nothing is measured with their labels.

    Raises:
        DamagedError: parts are damaged, and were removed.
    """
    calibrated = classifier.load(job.clip.spec)
    names = calibrated.class_names
    given = read_ground_truth(job.archive, names, store.storage) if job.archive is not None else None
    learned = frozenset(given or ()) & frozenset(map(plain_path, learned_from))
    labels = None if given is None else {image: label for image, label in given.items() if image not in learned}
    shares = labelled_shares(calibrated.held_out, classifier.confidence)
    rule = classifier.label_set_rule()
    sets = None if rule is None else LabelSetCounts(names, labels, len(rule.examples))
    counts = _Counts(names, labels, [share.threshold for share in shares], sets, learned)
    shares_are_counted = job.escalate is None and calibrated.has_scores
    failed = [failure for stage in stages for failure in stage.failures]
    units = [_failures([("unit", failure.path, "", failure.error)]) for failure in failed]
    failures = concat_parquet(FAILURE_SCHEMA, chain(units, _count_parts(store, predictions, counts)))
    store.put(f"{run}/{FAILURES}", failures)
    metrics = ClassificationMetrics(
        complete=not failed and counts.parts == len(predictions),
        failed_units=len(failed),
        too_many_unreadable=too_many_unreadable(job, images=counts.images, unreadable=counts.status["unreadable"]),
        images=counts.images,
        ok=counts.status["ok"],
        abstained=counts.status["abstained"],
        unreadable=counts.status["unreadable"],
        given_labels=counts.given_labels,
        mean_score=counts.score / counts.scored if counts.scored else None,
        measured=counts.measured,
        reliability=counts.reliability,
        score_histogram=ScoreHistogram(**{status: tuple(bins.tolist()) for status, bins in counts.scores.items()}),
        labels=dict(counts.labels.most_common()),
        skipped_entries=listing.skipped,
        skipped_examples=tuple(listing.skipped_examples),
        unreadable_examples=classifier.unreadable_examples,
        method=type(calibrated.method).name,
        hyperparameters=asdict(calibrated.method),  # type: ignore[call-overload]
        **asdict(calibrated.scaling),
        threshold=calibrated.threshold,
        held_out=held_out(calibrated.report),
        escalated=None if escalated is None else replace(escalated, measured=counts.escalation(store, run)),
        versions={name: version(name) for name in PACKAGES},
        labelled_shares=counts.with_archive_shares(shares) if shares_are_counted else shares,
        part_bytes=tuple(counts.part_bytes),
        label_sets=None if sets is None or rule is None else sets.summary(rule.max_error),
        unknown=counts.unknown.summary(unknown, images=counts.status["unknown"]),
        audited=audited,
    )
    store.put(f"{run}/{METRICS}", metrics.to_bytes())
    return metrics


def _count_parts(store: Store, parts: Sequence[str], counts: _Counts) -> Iterator[pa.Table]:
    """Count the run's parts, some of which are read ahead; yield the unreadable images of each.

    Raises:
        DamagedError: parts are damaged, and were removed; all of them, so that one more run makes them anew.
    """
    present, damaged = frozenset(present_parts(store, parts)), list[str]()

    def read(part: str) -> bytes | None:
        return store.get(part) if part in present else None

    for part, data in zip(parts, ordered_map(read, parts, READERS), strict=True):
        counts.part_bytes.append(0 if data is None else len(data))
        if data is None:
            continue
        try:
            with removed_if_damaged(store, part):
                table = read_parquet(data, columns=counts.columns)
        except DamagedError as error:
            damaged.append(str(error))
        else:
            yield counts.add(table)
    if damaged:
        more = f" {len(damaged) - 1} more parts likewise." if len(damaged) > 1 else ""
        raise DamagedError(f"{damaged[0]}{more}")


def held_out(report: HeldOutReport) -> HeldOut:
    """Return what was measured on held-out images as it is stored."""
    found = report.candidates
    candidates = None if found is None else tuple(CandidateMethod(**asdict(each)) for each in found)
    return HeldOut(**asdict(report) | {"candidates": candidates})


def too_many_unreadable(job: Job, *, images: int, unreadable: int) -> bool:
    """Whether more images are unreadable than the job file allows, or all of them."""
    if job.archive is None:
        return False
    return unreadable > job.archive.max_unreadable_fraction * images or 0 < images == unreadable


class _Counts:
    """Counts over prediction parts: a number for each class, nothing for each image (but the given labels).

    Args:
        names: the K classes.
        given: image -> index of its class, -1 for another class; None if no labels were given.
        thresholds: of the score; None for one that no score reaches.
        label_sets: counts the label sets; None if the parts have none.
        learned: other images with given labels, which the classifier learned from; they are only counted.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        given: Mapping[str, int] | None,
        thresholds: Sequence[float | None] = (),
        label_sets: LabelSetCounts | None = None,
        learned: Set[str] = frozenset(),
    ) -> None:
        self.learned, self.found_learned = learned, 0
        self.names, self.given, self.label_sets = names, given, label_sets
        self.thresholds = np.array([math.inf if each is None else each for each in thresholds])
        self.reaching = np.zeros(len(self.thresholds), np.int64)
        self.index = {name: i for i, name in enumerate(names)}
        self.parts, self.scored, self.score = 0, 0, 0.0
        self.part_bytes: list[int] = []
        self.found, self.of_other_classes = 0, 0
        self.status: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.scores = {status: np.zeros(SCORE_BINS, np.int64) for status in ("ok", "abstained")}
        self.tally: Tally | None = None
        self.unknown = UnknownCounts()

    @property
    def columns(self) -> list[str]:
        """Columns that are counted."""
        return COLUMNS if self.label_sets is None else [*COLUMNS, LABEL_SET.name]

    def add(self, part: pa.Table) -> pa.Table:
        """Count one part.

        Returns:
            its unreadable images.
        """
        self.parts += 1
        status, guesses = part["status"].to_pylist(), best_guesses(part)
        self.status.update(status)
        rows = zip(guesses, status, strict=True)
        self.labels.update(label for label, each in rows if label is not None and each != "unknown")
        self._count_scores(part)
        if self.label_sets is not None:
            self.label_sets.add(part)
        if self.given is not None:
            self._measure(part, guesses)
        broken = part.filter(pc.equal(part["status"], "unreadable")) if "unreadable" in status else part.slice(0, 0)
        reasons = zip(*(broken[name].to_pylist() for name in ("image", "source", "error")), strict=True)
        return _failures([("image", *row) for row in reasons])

    def _count_scores(self, part: pa.Table) -> None:
        """Unknown rows, and those that were decided without a score, are in none of this."""
        is_scored = pc.fill_null(pc.is_finite(part["score"]), False)
        scored = part.filter(pc.and_(is_scored, pc.not_equal(part["status"], "unknown")))
        self.scored += len(scored)
        self.score += sum(scored["score"].to_pylist())
        self.reaching += (scored["score"].to_numpy()[:, None] >= self.thresholds).sum(axis=0)
        for status, bins in self.scores.items():
            scores = scored.filter(pc.equal(scored["status"], status))["score"].to_numpy()
            bins += np.histogram(scores.clip(0.0, 1.0), bins=SCORE_BINS, range=(0.0, 1.0))[0]

    def _measure(self, part: pa.Table, guesses: Sequence[str | None]) -> None:
        import torch

        from fewshot.evaluation.metrics import Tally

        assert self.given is not None
        images = [plain_path(image) for image in part["image"].to_pylist()]
        known = [self.given[image] for image in images if image in self.given]
        self.found += len(known)
        self.found_learned += sum(image in self.learned for image in images)
        self.of_other_classes += sum(label < 0 for label in known)
        self.unknown.add(zip(map(self.given.get, images), part["status"].to_pylist(), strict=True))
        rows = list(self._labelled(part, guesses))
        if not rows:
            return
        labels, predicted, scores, withheld = zip(*rows, strict=True)
        tally = Tally.from_predictions(
            torch.tensor(labels),
            torch.tensor(predicted),
            torch.tensor(scores),
            num_classes=len(self.names),
            abstained=torch.tensor(withheld),
        )
        self.tally = tally if self.tally is None else self.tally + tally

    def _labelled(self, part: pa.Table, guesses: Sequence[str | None]) -> Iterator[tuple[int, int, float, bool]]:
        """Given label, most probable class, score, and whether it is withheld, of every image that has all of it."""
        assert self.given is not None
        columns = (part[name].to_pylist() for name in ("image", "score", "status"))
        for image, score, status, guess in zip(*columns, guesses, strict=True):
            known = self.given.get(plain_path(image), -1)
            if known >= 0 and guess is not None:
                yield known, self.index[guess], math.nan if score is None else score, status != "ok"

    def escalation(self, store: Store, run: str) -> MeasuredEscalation | None:
        """Return what escalation was worth; None where nothing was measured."""
        if self.tally is None or self.given is None:
            return None
        known = {image: self.names[label] for image, label in self.given.items() if label >= 0}
        right = int(self.tally.hits.sum())
        return measure_escalation(store, run, known, correct=right, labelled=self.tally.rows, images=self.images)

    def with_archive_shares(self, shares: Sequence[LabelledShare]) -> tuple[LabelledShare, ...]:
        """Return the shares of the thresholds with the share of the readable images that reach each of them."""
        readable = self.images - self.status["unreadable"]
        found = [int(count) / readable if readable else None for count in self.reaching]
        return tuple(replace(share, archive_share=part) for share, part in zip(shares, found, strict=True))

    @property
    def images(self) -> int:
        return sum(self.status.values())

    @property
    def given_labels(self) -> GivenLabels | None:
        if self.given is None:
            return None
        return GivenLabels(
            given=len(self.given) + len(self.learned),
            found=self.found + self.found_learned,
            of_other_classes=self.of_other_classes,
            learned_from=self.found_learned or None,
        )

    @property
    def measured(self) -> Measured | None:
        if self.tally is None:
            return None
        return Measured(
            labelled_images=self.tally.rows,
            accuracy=self.tally.accuracy,
            macro_f1=self.tally.macro_f1,
            ece=self.tally.ece if self.tally.bin_rows.any() else None,
            coverage=self.tally.coverage,
            accuracy_of_accepted=self.tally.selective_accuracy if self.tally.accepted else None,
        )

    @property
    def reliability(self) -> Reliability | None:
        if self.tally is None:
            return None
        return Reliability(
            rows=tuple(self.tally.bin_rows.tolist()),
            correct=tuple(self.tally.bin_correct.tolist()),
            confidence=tuple(self.tally.bin_confidence.tolist()),
        )


def _failures(rows: Sequence[tuple[str, str, str, str]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(FAILURE_SCHEMA)
    return pa.table([pa.array(c, pa.string()) for c in columns], schema=FAILURE_SCHEMA)
