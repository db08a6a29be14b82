"""What an audit found, as it is stored and printed as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ray_jobs.results.json_format import JsonDocument, JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedShare(JsonValue):
    """A share of the archive that was estimated.

    Attributes:
        value: the estimate, in [0, 1]; None with too few answers.
        low: lower end of the interval that holds at every look.
        high: its upper end.
        fixed_low: lower end of the interval for a number of answers that was fixed beforehand; None as `value`.
        fixed_high: its upper end.
    """

    value: float | None
    low: float
    high: float
    fixed_low: float | None
    fixed_high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedClass(JsonValue):
    """What was found out about a class.

    Attributes:
        label: the class.
        predicted: number of images that are predicted to be of it, also where the label is withheld.
        images: number of images that are of it, estimated; None with too few answers.
        images_low: lower end of the interval of that number that holds at every look.
        images_high: its upper end.
        share: of the images that are of it.
        precision: share of the predicted images that are of it.
        recall: share of the images of it that are predicted.
    """

    label: str
    predicted: int
    images: int | None
    images_low: int
    images_high: int
    share: AuditedShare
    precision: AuditedShare
    recall: AuditedShare


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedLimit(JsonValue):
    """What an audit shows about a maximum error rate.

    Attributes:
        max_error: in (0, 1).
        needed: number of answers to the most certain images that can show it, if all are right.
        threshold: labels with a smaller score are to be withheld; None where no threshold passes.
        share: of the audited images that reach it, in [0, 1].
        answered: answers to such images.
        wrong: how many of them are wrong, or not known to be right.
    """

    max_error: float
    needed: int
    threshold: float | None
    share: float
    answered: int
    wrong: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEstimates(JsonValue):
    """What the answers say about the archive.

    Attributes:
        accuracy: share of right predictions, the best guess where a label is withheld; of an unknown image, that it is
            of no class.
        labelled_error: share of wrong labels among those given; None where none is.
        classes: every class of the answered images.
        limits: at several maximum error rates.
    """

    accuracy: AuditedShare
    labelled_error: AuditedShare | None
    classes: tuple[AuditedClass, ...]
    limits: tuple[AuditedLimit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSummary(JsonValue):
    """What an audit says about a run, without its classes: a part of the metrics of the run.

    Attributes:
        draw: ID of the draw; `audits/<draw>/result.json` in the output has all of the result.
        answered: number of answers that count.
        population: number of images that the sample was drawn from.
        confidence: of the intervals, in (0, 1).
        limit_confidence: of the thresholds, in (0, 1).
        accuracy: as in `AuditEstimates`.
        labelled_error: likewise.
        limits: likewise.
    """

    draw: str
    answered: int
    population: int
    confidence: float
    limit_confidence: float
    accuracy: AuditedShare
    labelled_error: AuditedShare | None
    limits: tuple[AuditedLimit, ...]

    def sentence(self) -> str:
        """Say how many predictions are right."""
        share = self.accuracy
        value = "" if share.value is None else f"{share.value:.1%}, "
        return (
            f"by an audit of {self.answered:,} of {self.population:,} images, right predictions: {value}{share.low:.1%}"
            f" to {share.high:.1%} with {self.confidence:.0%} confidence"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditResult(JsonDocument):
    """An audit of a run.

    Attributes:
        draw: ID of the draw, for answers.
        run: name of the run.
        classifier: fingerprint of its classifier.
        archive: identity of the archive, as label events have it.
        seed: of the draw.
        sample: path of the stored sample in the output.
        images: number of images that were drawn.
        population: number of images that they were drawn from.
        unreadable: images of the archive without a prediction, which are left out.
        learned_from: images of the archive that the classifier learned from, which are left out.
        labelled_share: share of the population that has a label (status ok), in [0, 1].
        abstained_share: share of it whose label is withheld.
        answered: answers that count: those of the first images of the draw, up to the first without one.
        uncertain: how many of them say that nobody can say: they count as wrong, and as right.
        waiting: answers that do not count yet, because an image before them has none.
        confidence: of every interval, in (0, 1).
        limit_confidence: of the thresholds, in (0, 1).
        estimates: what the answers say; None without answers.
        notes: sentences about what to know.
    """

    format_version: ClassVar[int] = 1
    draw: str
    run: str
    classifier: str
    archive: str
    seed: int
    sample: str
    images: int
    population: int
    unreadable: int
    learned_from: int
    labelled_share: float
    abstained_share: float
    answered: int
    uncertain: int
    waiting: int
    confidence: float
    limit_confidence: float
    estimates: AuditEstimates | None
    notes: tuple[str, ...] = ()

    def summary(self) -> AuditSummary | None:
        """Return what metrics have of it; None without answers."""
        if (found := self.estimates) is None:
            return None
        return AuditSummary(
            draw=self.draw,
            answered=self.answered,
            population=self.population,
            confidence=self.confidence,
            limit_confidence=self.limit_confidence,
            accuracy=found.accuracy,
            labelled_error=found.labelled_error,
            limits=found.limits,
        )
