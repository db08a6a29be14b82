"""What a run set out to do: `plan.json`, written before anything else, so that a run is found from its beginning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from fewshot.evaluation.protocols import ProtocolName
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
        protocol: of an evaluation: name of the protocol.
        cells: of an evaluation: parts of the results, paths in the output.
    """

    format_version: ClassVar[int] = 2
    kind: RunKind
    job: str
    classes: int
    features: tuple[str, ...]
    archive: ArchiveSummary | None = None
    classifier: str | None = None
    examples: int | None = None
    protocol: ProtocolName | None = None
    cells: tuple[str, ...] = ()

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
