"""What the journal of a registry consists of: versions of a classifier, and what was done with them.

`docs/registry.md` specifies the format. Entries are only ever added.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

from ray_jobs.results.json_format import JsonDocument, JsonValue

EvidenceBasis = Literal["fresh labels", "held-back examples"]
"""Labels that came after both versions; or examples that the twins of both did not learn from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version(JsonValue):
    """A trained classifier, and what it was trained from.

    Attributes:
        number: of the version, from 1, in the order of registration.
        classifier: method and fingerprint, see `ClassifierRef.name`.
        folder: its folder in the output.
        twin: folder of its twin, which learned from all its examples but a part that is held back.
        method: the method that labels, the selected one where methods were compared.
        classes: K names, in label order.
        backbone: identity of the backbone, see `ClipSpec.identity`.
        labels: digest of the labels that it learned from, which lie in `labels/<digest>.json` beside the journal.
        settings: fingerprint of all else that it was trained with; with the same labels it is the same classifier.
        examples: number of examples that it learned from.
        held_out: number of examples on which its scores are calibrated.
        accuracy: expected accuracy on held-out examples, in [0, 1]; None where it is unknown.
        archive_sample: name of the frozen sample of the archive that it learned from; None if it learned from none.
        parent: version that was in production when it was trained; None for the first.
    """

    number: int
    classifier: str
    folder: str
    twin: str
    method: str
    classes: tuple[str, ...]
    backbone: Mapping[str, object] = field(hash=False)
    labels: str
    settings: str
    examples: int
    held_out: int
    accuracy: float | None
    archive_sample: str | None
    parent: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence(JsonValue):
    """What a decision rests on, see `fewshot.promotion.gate.GateResult`.

    Attributes:
        images: number of images that both versions classified.
        better: number of them on which only the newer version is right.
        worse: number of them on which only the older one is right.
        log_evidence: natural logarithm of the evidence for the newer one.
        log_harm: natural logarithm of the evidence for the older one.
        log_needed: what either must reach.
        basis: the images that both were compared on. On held-back examples a sign test decides about a version that
            need not wait, and no evidence.

    Raises:
        ValueError: a logarithm is not finite, which JSON does not have.
    """

    images: int
    better: int
    worse: int
    log_evidence: float
    log_harm: float
    log_needed: float
    basis: EvidenceBasis = "fresh labels"

    def __post_init__(self) -> None:
        """Refuse what could not be read back."""
        if not all(map(math.isfinite, (self.log_evidence, self.log_harm, self.log_needed))):
            raise ValueError(f"expected finite logarithms of evidence, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered(JsonValue):
    """A version was trained. It is the candidate from now on; an earlier one that was not decided about is dropped.

    Attributes:
        version: that one.
        newest_label: time of the newest label of the ledger that was read; empty without any.
    """

    kind: Literal["registered"] = "registered"
    version: Version
    newest_label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(JsonValue):
    """New labels contradict production too much: nothing learns from them until they are corrected or accepted.

    Attributes:
        labels: digest of all labels at that time; they are not stored.
        days: on which they came, such as "2026-11-30", UTC; "examples" for those that are in no ledger.
        images: number of labels that were looked at.
        agreeing: number of them that production would have given, too.
        expected: number of them that its recalibrated scores promise.
        classes: the classes to look at, night by night, those with most wrong labels first.
        newest_label: as `Registered`.
    """

    kind: Literal["refused"] = "refused"
    labels: str
    days: tuple[str, ...]
    images: int
    agreeing: int
    expected: float
    classes: tuple[str, ...]
    newest_label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted(JsonValue):
    """A person accepted labels that would be refused: none of them is refused later.

    Attributes:
        labels: digest of all labels at that time, as `Version.labels`.
        days: as `Refused`.
        classes: as `Refused`.
    """

    kind: Literal["accepted"] = "accepted"
    labels: str
    days: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared(JsonValue):
    """Two versions were compared by labels that came after both; nothing was moved.

    Attributes:
        version: the newer one.
        against: the older one.
        evidence: so far.
    """

    kind: Literal["compared"] = "compared"
    version: int
    against: int
    evidence: Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted(JsonValue):
    """A version became production.

    Attributes:
        version: that one.
        former: the one before it; None if there was none.
        is_watched: whether it goes back by itself as soon as there is evidence of harm.
        is_forced: whether a person decided so.
        evidence: for it; None for the first one and where a person decided so.
    """

    kind: Literal["promoted"] = "promoted"
    version: int
    former: int | None
    is_watched: bool = False
    is_forced: bool = False
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected(JsonValue):
    """A candidate was rejected.

    Attributes:
        version: the candidate.
        is_forced: whether a person decided so.
        evidence: against it; None where a check before it gave the reason, and where a person did it.
    """

    kind: Literal["rejected"] = "rejected"
    version: int
    is_forced: bool = False
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack(JsonValue):
    """An earlier version became production again.

    Attributes:
        version: the one that is production now.
        former: the one that was until now.
        is_automatic: whether evidence of harm did it, and no person.
        evidence: of harm; None where a person did it.
    """

    kind: Literal["rolled back"] = "rolled back"
    version: int
    former: int
    is_automatic: bool = False
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed(JsonValue):
    """The watch over a promoted version, and over those before it, ended without harm; those after it stay watched.

    Attributes:
        version: that one.
        is_forced: whether a person decided so.
        evidence: of the watch; None where a person decided so.
    """

    kind: Literal["confirmed"] = "confirmed"
    version: int
    is_forced: bool = False
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned(JsonValue):
    """Stored classifiers of versions are removed; they cannot become production any more.

    Attributes:
        versions: their numbers.
    """

    kind: Literal["pruned"] = "pruned"
    versions: tuple[int, ...]


Move: TypeAlias = Registered | Refused | Accepted | Compared | Promoted | Rejected | RolledBack | Confirmed | Pruned


def is_by_hand(move: Move) -> bool:
    """Return whether a person decided on a move, without or against the evidence."""
    match move:
        case Promoted(is_forced=is_forced) | Rejected(is_forced=is_forced) | Confirmed(is_forced=is_forced):
            return is_forced
        case RolledBack(is_automatic=is_automatic):
            return not is_automatic
        case _:
            return isinstance(move, Accepted)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry(JsonDocument):
    """A move: who made it, when and why.

    Attributes:
        sequence: number of the entry, from 1 without gaps.
        previous: digest of the bytes of the entry before it; empty for the first.
        id: 32 hexadecimal digits, of this entry alone.
        time: UTC to the microsecond, such as "2026-11-30T15:50:01.123456Z"; later than that of the entry before it.
        by: who made it.
        why: in a sentence.
        move: what was done.
    """

    format_version: ClassVar[int] = 1
    sequence: int
    previous: str
    id: str
    time: str
    by: str
    why: str
    move: Move
