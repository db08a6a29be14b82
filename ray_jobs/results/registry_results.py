"""What the commands of `fewshot registry` print."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ray_jobs.results.json_format import Json, JsonDocument, JsonValue

VersionState = Literal["production", "shadow", "candidate", "former", "rejected", "removed", "dropped"]
"""In production; restored if the watched one does harm; being decided about; in production earlier; rejected; its
classifier is gone; replaced by a later candidate before it was decided about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedVersion(JsonValue):
    """A version in a list.

    Attributes:
        version: its number.
        state: see `VersionState`.
        is_forced: whether a person made it what it is, and not the evidence.
        method: that labels.
        classes: number of classes.
        examples: number of examples that it learned from.
        accuracy: expected on held-out examples, in [0, 1]; None where unknown.
        parent: version that was in production when it was trained.
        classifier: URL of its classifier.
        time: when it was registered.
        by: who registered it.
        why: in a sentence.
    """

    version: int
    state: VersionState
    is_forced: bool
    method: str
    classes: int
    examples: int
    accuracy: float | None
    parent: int | None
    classifier: str
    time: str
    by: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryList(JsonDocument):
    """All versions of a job's classifiers.

    Attributes:
        job: name of the job.
        registry: URL of the registry.
        production: number of the version in production; None before the first promotion.
        watched: whether it goes back by itself on evidence of harm.
        versions: in the order of their numbers.
    """

    format_version: ClassVar[int] = 1
    job: str
    registry: str
    production: int | None
    watched: bool
    versions: tuple[ListedVersion, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalLine(JsonValue):
    """An entry of the journal, for people.

    Attributes:
        sequence: number of the entry.
        time: UTC.
        by: who made the move.
        did: what was done, in a sentence.
        why: the reason, in a sentence.
        evidence: what it rests on, in a sentence; None where it rests on none.
        is_forced: whether a person decided so.
        move: the move itself; of a registration, without the version.
    """

    sequence: int
    time: str
    by: str
    did: str
    why: str
    evidence: str | None
    is_forced: bool
    move: dict[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDetails(JsonDocument):
    """A version, and all that was done with it.

    Attributes:
        job: name of the job.
        version: as the list has it.
        images_of_class: number of examples of each class.
        backbone: identity of the backbone.
        moves: the entries of the journal that concern it, in order.
    """

    format_version: ClassVar[int] = 1
    job: str
    version: ListedVersion
    images_of_class: dict[str, int]
    backbone: dict[str, Json]
    moves: tuple[JournalLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDiff(JsonDocument):
    """How two versions differ.

    Attributes:
        before: number of one.
        after: number of the other.
        added: number of examples that only the other learned from.
        removed: number of examples that only the one learned from.
        relabelled: number of examples with other classes.
        new_classes: names that only the other has.
        removed_classes: names that only the one has.
        renamed: pairs of the earlier and the new name of a class.
        changed_classes: classes whose examples differ.
        settings: what else differs, by name, a pair of the values of both.
    """

    format_version: ClassVar[int] = 1
    before: int
    after: int
    added: int
    removed: int
    relabelled: int
    new_classes: tuple[str, ...]
    removed_classes: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    changed_classes: tuple[str, ...]
    settings: dict[str, tuple[Json, Json]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryMove(JsonDocument):
    """What a command moved.

    Attributes:
        job: name of the job.
        did: what was done, in words.
        moved: whether something was; not if it was so already.
        production: number of the version in production now.
        former: number of the one before.
    """

    format_version: ClassVar[int] = 1
    job: str
    did: str
    moved: bool
    production: int | None
    former: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionToPrune(JsonValue):
    """What becomes of a version when classifiers are removed.

    Attributes:
        version: its number.
        state: see `VersionState`, before.
        stays: whether its classifier stays.
        why: what needs it, or that nothing does.
    """

    version: int
    state: VersionState
    stays: bool
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneResult(JsonDocument):
    """What was removed, or would be.

    Attributes:
        job: name of the job.
        dry_run: whether nothing was changed.
        production: number of the version in production.
        versions: in the order of their numbers; those that were removed before are left out.
        folders: in the output, of classifiers and their twins that are removed.
        bytes: in these folders.
    """

    format_version: ClassVar[int] = 1
    job: str
    dry_run: bool
    production: int | None
    versions: tuple[VersionToPrune, ...]
    folders: tuple[str, ...]
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnStep(JsonValue):
    """What a turn decided about a version.

    Attributes:
        version: number of the version; None where it is about labels.
        step: what was decided: train, refuse, promote, reject, hold, roll back or confirm.
        why: in a sentence.
    """

    version: int | None
    step: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook(JsonValue):
    """How many labels a decision is expected to take.

    Attributes:
        gain: true gain of the candidate in accuracy, as a share.
        labels: number of labels, from the first one on; None if such a gain would not be shown.
    """

    gain: float
    labels: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainResult(JsonDocument):
    """What one turn of `fewshot retrain` did.

    Attributes:
        job: name of the job.
        steps: in order; none if nothing changed.
        trained: number of classifiers that were trained, twins included.
        production: number of the version in production.
        candidate: number of the version that waits for labels; None if none does.
        watched: whether production goes back by itself on evidence of harm.
        refused: whether labels wait that contradict production too much.
        outlook: of a candidate that waits.
        complete: whether every image has its prediction by production.
        images: number of images of the archive.
        did: how much of the archive was labelled anew: everything, the rest or nothing.
        run: URL of the run by production.
        report: URL of its report.
    """

    format_version: ClassVar[int] = 1
    job: str
    steps: tuple[TurnStep, ...]
    trained: int
    production: int
    candidate: int | None
    watched: bool
    refused: bool
    outlook: tuple[Outlook, ...]
    complete: bool
    images: int
    did: str
    run: str
    report: str | None
