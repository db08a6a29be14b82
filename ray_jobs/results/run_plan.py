"""What a run set out to do: `plan.json`, written before anything else, so that a run is found from its beginning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from fewshot.evaluation.protocols import ProtocolName
from ray_jobs.results.error_limits import AuditedThreshold
from ray_jobs.results.json_format import JsonDocument, JsonValue

RunKind = Literal["classification", "evaluation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSummary(JsonValue):
    """What an archive held when it was listed.

    Attributes:
        images: number of images; None where only reading the archive tells.
        shards: number of shards.
        skipped: entries passed over because they are no images by their names.
        skipped_examples: names of a few of them.
    """

    images: int | None
    shards: int
    skipped: int
    skipped_examples: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedWork(JsonValue):
    """The work of a run, in images to embed that take as long, as it was estimated.

    Attributes:
        examples: of embedding the examples.
        archive: of embedding the archive, or the data set of an evaluation.
        results: of labelling, or of measuring.
        escalation: of [escalate], at most.
    """

    examples: float
    archive: float
    results: float
    escalation: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.examples + self.archive + self.results + self.escalation


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan(JsonDocument):
    """What a run set out to do.

    Attributes:
        kind: "classification" labels an archive, "evaluation" measures methods on a labelled set.
        job: name of the job.
        classes: number of classes.
        features: parts of features that the run reads, paths in the output.
        archive: of a classification: the archive as it was listed.
        classifier: of a classification: folder of the classifier in the output, or its URL if it lies elsewhere.
        examples: of a classification: number of examples; None for a stored classifier that does not say.
        max_error: of a classification: error rate that is tolerated among labels given; None labels every image.
        confidence: of a classification: with which `max_error` is to hold.
        label_set_error: of a classification: probability with which a label set may lack the true label; None if images
            have no label sets.
        unknown_rate: of a classification: largest share of images of the classes that may be called unknown; None if no
            image is.
        learned_from: of a classification: keys of images of the archive that are examples, in ascending order; None if
            there are none.
        audited: of a classification: the audit that the threshold of `max_error` is from; None where it is from the
            examples.
        protocol: of an evaluation: name of the protocol.
        cells: of an evaluation: parts of the results, paths in the output.
        example_parts: of a classification: parts of features of the examples, paths in the output.
        predictions: of a classification: the parts of its predictions, in the archive's order, paths in the output.
            Runs share them; those of a run with [escalate] are its own.
        cheap_predictions: of a classification with [escalate]: the parts that the classifier gives, likewise.
        work: what it takes, for estimates of progress; None in plans of older versions.
    """

    format_version: ClassVar[int] = 3
    omitted: ClassVar[frozenset[str]] = frozenset({"label_set_error", "unknown_rate", "learned_from", "audited"})
    kind: RunKind
    job: str
    classes: int
    features: tuple[str, ...]
    archive: ArchiveSummary | None = None
    classifier: str | None = None
    examples: int | None = None
    max_error: float | None = None
    confidence: float = 0.9
    protocol: ProtocolName | None = None
    cells: tuple[str, ...] = ()
    example_parts: tuple[str, ...] = ()
    predictions: tuple[str, ...] = ()
    cheap_predictions: tuple[str, ...] = ()
    work: PlannedWork | None = None
    label_set_error: float | None = None
    unknown_rate: float | None = None
    learned_from: tuple[str, ...] | None = None
    audited: AuditedThreshold | None = None

    def __post_init__(self) -> None:
        """Check that a classification has an archive.

        Raises:
            ValueError: it has none.
        """
        if self.kind == "classification" and self.archive is None:
            raise ValueError("a classification needs an archive")

    @property
    def parts(self) -> int:
        """Number of parts of results that the complete run has."""
        return self.archive.shards if self.archive is not None else len(self.cells)

    @property
    def classifier_name(self) -> str | None:
        """Method and fingerprint of the classifier, the same wherever it lies or was moved to; None without one."""
        return None if self.classifier is None else "/".join(self.classifier.split("/")[-2:])
