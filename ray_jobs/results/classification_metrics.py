"""What a classification amounts to: `metrics.json`, written last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from ray_jobs.results.audit_result import AuditSummary
from ray_jobs.results.error_limits import AuditedThreshold, LabelledShare
from ray_jobs.results.escalation_summary import EscalationSummary
from ray_jobs.results.json_format import JsonDocument, JsonValue
from ray_jobs.results.label_sets import LabelSetSummary
from ray_jobs.results.unknown_images import UnknownImages

Status = Literal["ok", "abstained", "unknown", "unreadable"]
"""What became of an image: it has a label, its label is withheld, it is of no class, or it could not be read."""
STATUSES: tuple[Status, ...] = ("ok", "abstained", "unknown", "unreadable")
HeldOutSource = Literal["val", "folds", "text", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenLabels(JsonValue):
    """Labels of the archive that were given to measure with.

    Attributes:
        given: number of labels.
        found: of these, labels of an image of the archive.
        of_other_classes: of those found, labels of a class that the classifier does not have.
        learned_from: of those found, labels of images that the classifier learned from, with which nothing is measured;
            they are not among `of_other_classes`. None if there are none.
    """

    omitted: ClassVar[frozenset[str]] = frozenset({"learned_from"})
    given: int
    found: int
    of_other_classes: int
    learned_from: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured(JsonValue):
    """How good predictions are, measured against given labels. All numbers but the first lie in [0, 1].

    Attributes:
        labelled_images: images that were read and whose label is known.
        accuracy: share of them whose most probable class is right, abstained and unknown images included.
        macro_f1: mean over the classes of F1.
        ece: expected calibration error of the scores; None without any score.
        coverage: share of them that have a label.
        accuracy_of_accepted: accuracy over those that have a label; None if none has.
    """

    labelled_images: int
    accuracy: float
    macro_f1: float
    ece: float | None
    coverage: float
    accuracy_of_accepted: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability(JsonValue):
    """Images with a score and a known label, in equal-width bins of the score over [0, 1].

    Attributes:
        rows: images of each bin.
        correct: of these, images whose most probable class is right.
        confidence: sum of their scores.
    """

    rows: tuple[int, ...]
    correct: tuple[int, ...]
    confidence: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreHistogram(JsonValue):
    """Images with a score, in equal-width bins of the score over [0, 1].

    Attributes:
        ok: images of each bin that have a label.
        abstained: images of each bin whose label is withheld.
    """

    ok: tuple[int, ...]
    abstained: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableExamples(JsonValue):
    """Examples that could not be read; the classifier was trained without them.

    Attributes:
        examples: how many.
        such_as: a few of them.
        classes: classes that have no other example.
    """

    examples: int
    such_as: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateMethod(JsonValue):
    """How a method did that was compared with others on the held-out images.

    Attributes:
        method: its name.
        accuracy: in [0, 1].
        nll: negative log-likelihood after its own calibration, in nats.
        behind: how far its accuracy is behind that of the most accurate method, >= 0.
        standard_error: of `behind`.
    """

    method: str
    accuracy: float | None
    nll: float | None
    behind: float | None
    standard_error: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut(JsonValue):
    """What was measured on images that the classifier was not trained on.

    Attributes:
        source: "val": extra labelled images; "folds": cross-validation inside the examples; "text": one example a
            class, so lower bounds, and no scores; "none": there was nothing to measure on.
        images: number of these images.
        accuracy: share of them labelled right, in [0, 1], with hyperparameters that may have been chosen on them.
        nll_before: negative log-likelihood of the logits as they are, in nats.
        nll_after: of the scaled ones.
        ece_before: expected calibration error of the logits as they are, in [0, 1].
        ece_after: of the scaled ones.
        max_error: the error rate that is tolerated among labels given; None for any.
        confidence: probability with which `error_bound` holds.
        coverage: share of them at or above the threshold; 1 without `max_error`.
        error_bound: upper bound of the error rate at or above the threshold; None where no threshold keeps `max_error`,
            or without images.
        candidates: how each method did that was compared, the best first; None where one was named.
        nested_accuracy: the accuracy with hyperparameters that were chosen without the image: what to expect, which
            `accuracy` flatters; None where nothing was chosen on these images.
    """

    source: HeldOutSource
    images: int
    accuracy: float | None = None
    nll_before: float | None = None
    nll_after: float | None = None
    ece_before: float | None = None
    ece_after: float | None = None
    max_error: float | None = None
    confidence: float | None = None
    coverage: float | None = None
    error_bound: float | None = None
    candidates: tuple[CandidateMethod, ...] | None = None
    nested_accuracy: float | None = None

    @property
    def expected_accuracy(self) -> float | None:
        """The accuracy to expect of other images, in [0, 1]; None without images."""
        return self.accuracy if self.nested_accuracy is None else self.nested_accuracy

    @property
    def calibrates(self) -> bool:
        """Whether scores can be calibrated on these images."""
        return self.source in ("val", "folds") and self.images > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationMetrics(JsonDocument):
    """What a classification amounts to.

    Attributes:
        complete: whether every unit of work is done; if not, run the job again.
        failed_units: units of work that failed.
        too_many_unreadable: whether more images are unreadable than the job file allows, or all of them.
        images: images of the archive, one row of predictions each.
        ok: images with a label.
        abstained: images whose label is withheld.
        unreadable: images that could not be read.
        given_labels: labels that were given to measure with; None if there were none.
        mean_score: mean of the scores of images that are not unknown; None where no image has one, as where nothing
            could be held out to calibrate on.
        measured: how good predictions are, without images that were learned from; None where no label is known.
        reliability: how far scores mean what they say; None likewise.
        score_histogram: how many images have which score.
        labels: by class, the number of images whose most probable class it is, the most frequent first; with abstained
            images, without unknown ones.
        skipped_entries: entries of the archive that are no images by their names.
        skipped_examples: names of a few of them.
        unreadable_examples: examples that the classifier was trained without.
        method: name of the method.
        hyperparameters: all of the method's, the chosen ones included.
        temperature: of images whose logits are spread at most `least_spread`.
        spread_power: how the temperature grows with the spread of the logits; 0 for a constant one.
        least_spread: see `spread_power`.
        threshold: labels with a smaller score are withheld; None withholds none, above 1 withholds all.
        held_out: what was measured on the examples alone.
        labelled_shares: what would be labelled at several maximum error rates.
        escalated: what a diffusion model decided; None without [escalate], or where that is not complete.
        versions: of the packages that decide the numbers.
        part_bytes: length of each part of predictions, in the archive's order; 0 for one that is missing.
        label_sets: what became of the label sets; None if images have none.
        unknown: what became of the test of images of no class; None without it.
        audited: the audit that the threshold is from; None where it is from the examples.
        audit: what an audit of this run says, the one with the most answers; None as long as there is none. The only
            value that changes after the run.
    """

    format_version: ClassVar[int] = 2
    omitted: ClassVar[frozenset[str]] = frozenset({"label_sets", "unknown", "audited", "audit"})
    complete: bool
    failed_units: int
    too_many_unreadable: bool
    images: int
    ok: int
    abstained: int
    unreadable: int
    given_labels: GivenLabels | None
    mean_score: float | None
    measured: Measured | None
    reliability: Reliability | None
    score_histogram: ScoreHistogram
    labels: Mapping[str, int]
    skipped_entries: int
    skipped_examples: tuple[str, ...]
    unreadable_examples: UnreadableExamples
    method: str
    hyperparameters: Mapping[str, object]
    temperature: float
    spread_power: float
    least_spread: float
    threshold: float | None
    held_out: HeldOut
    escalated: EscalationSummary | None
    versions: Mapping[str, str]
    part_bytes: tuple[int, ...]
    labelled_shares: tuple[LabelledShare, ...] = ()
    label_sets: LabelSetSummary | None = None
    unknown: UnknownImages | None = None
    audited: AuditedThreshold | None = None
    audit: AuditSummary | None = None

    @property
    def statuses(self) -> tuple[Status, ...]:
        """Statuses that images of this run can have."""
        return tuple(status for status in STATUSES if status != "unknown" or self.unknown is not None)

    def count(self, status: Status) -> int:
        """Return the number of images with a status."""
        unknown = 0 if self.unknown is None else self.unknown.images
        counts = {"ok": self.ok, "abstained": self.abstained, "unknown": unknown, "unreadable": self.unreadable}
        return counts[status]
