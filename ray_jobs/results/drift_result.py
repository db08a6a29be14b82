"""What `fewshot drift` stores and prints: references, the comparison of a night, and what became of an alarm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ray_jobs.results.json_format import JsonDocument, JsonValue

StatisticName = Literal["features", "novel", "classes", "withheld"]
"""See `fewshot.drift.compare`."""
DriftOutcome = Literal["reference", "waiting", "compared", "unchanged"]
"""A reference was written, which later passes are compared with; too few images came since; they were compared; they
are the same as in the night that is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReference(JsonDocument):
    """The images that later ones are compared with: stored at promotion, and never changed.

    Attributes:
        number: of the reference, from 1.
        time: when it was written, by the clock of that machine; numbers give the order.
        version: of the registry that was promoted; None for a job without a registry.
        run: the run whose contents are those that are known, a path in the output; that of the reference whose contents
            it carries on.
        backbone: fingerprint of the backbone, as the folder of features has it.
        predictions: what determines the predictions of the sample, their folder in the output.
        images: number of images of the sample.
        contents: number of different contents by which new images are told from old ones.
        sample: path of the sample in the output; contains the digest of its content.
        known: path of the list of contents, likewise.
        why: in a sentence.
    """

    format_version: ClassVar[int] = 1
    number: int
    time: str
    version: int | None
    run: str
    backbone: str
    predictions: str
    images: int
    contents: int
    sample: str
    known: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftFinding(JsonValue):
    """What one statistic says of one window of new images.

    Attributes:
        statistic: "features", "novel", "classes" or "withheld".
        images: number of new images in the window.
        reference: value of the reference, or what is expected without drift.
        value: of the new images: an AUC, or a share of images.
        effect: what is compared with the floor.
        floor: smallest effect that is an alarm.
        p_value: probability of such a value if nothing changed.
        level: largest p-value that is an alarm.
        alarm: whether effect and p-value both are what an alarm needs.
    """

    statistic: StatisticName
    images: int
    reference: float
    value: float
    effect: float
    floor: float
    p_value: float
    level: float
    alarm: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlikeImage(JsonValue):
    """A new image that is unlike the reference.

    Attributes:
        image: its key, as the predictions have it.
        source: the object that holds it; "" where it is an object itself.
        shard: fingerprint of its shard.
        row: position in the shard, from 0.
        label: the most probable class, also where the label was withheld; None if there is no prediction.
        status: of the prediction; None if there is none.
        score: of the discriminant, above the mean of the reference.
    """

    image: str
    source: str
    shard: str
    row: int
    label: str | None
    status: str | None
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftNight(JsonDocument):
    """The comparison of a night: an entry that is written only if its number is free, and never changed.

    Attributes:
        number: of the entry, from 1.
        time: when it was made, likewise.
        reference: number of the reference.
        run: the run whose images were compared, a path in the output.
        came: number of contents that came since the night before.
        since: number of contents of the run that came since the reference.
        seen: path of the list of these contents in the output, with the night in which each came.
        level: what the night spends of the false alarms of a year: that of all findings together, and of those that
            are left out because predictions cannot be compared.
        findings: in order.
        unlike: the new images most unlike the reference, at most 12.
    """

    format_version: ClassVar[int] = 1
    number: int
    time: str
    reference: int
    run: str
    came: int
    since: int
    seen: str
    level: float
    findings: tuple[DriftFinding, ...]
    unlike: tuple[UnlikeImage, ...]

    @property
    def alarms(self) -> tuple[DriftFinding, ...]:
        """Findings that are an alarm."""
        return tuple(finding for finding in self.findings if finding.alarm)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftResult(JsonDocument):
    """What `fewshot drift` prints.

    Attributes:
        job: name of the job.
        did: see `DriftOutcome`.
        alarm: whether the images that are there are an alarm.
        fails: whether the command ends with exit code 3.
        sentences: what was found, for people.
        reference: that images are compared with.
        night: the comparison that was made, or that of the same images before; None if there is neither.
        page: URL of the page of that night; None if there is none.
        webhook: what became of the call: "sent", or the reason why not; None if there was none.
    """

    format_version: ClassVar[int] = 1
    job: str
    did: DriftOutcome
    alarm: bool
    fails: bool
    sentences: tuple[str, ...]
    reference: DriftReference
    night: DriftNight | None
    page: str | None
    webhook: str | None
