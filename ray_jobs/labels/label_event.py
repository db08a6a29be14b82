"""What the ledger of labels consists of: labels that people gave to images, and undone ones. Nothing is ever changed.

`docs/labels.md` specifies the format.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Literal, NamedTuple, TypeAlias
from uuid import uuid4

from ray_jobs.results.json_format import JsonDocument, JsonValue

Answer = Literal["label", "unknown", "unreadable", "skipped"]
"""A class; "it is of none of the classes"; "it shows nothing"; "I cannot say"."""
Reason = Literal["audit", "suggestion", "correction", "review", "search", "import", "planted"]
"""Why an image was shown. Planted ones have a label that is known to be wrong, and only measure the reviewer."""
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"
_TOO_LATE = "9999"


class ImageId(NamedTuple):
    """An image: its archive and its key there.

    Attributes:
        archive: identity of the archive, see `cluster.records.Source.identity`.
        image: its key, as the predictions have it.
    """

    archive: str
    image: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted(JsonValue):
    """What was predicted for an image when a person labelled it.

    Attributes:
        label: the most probable class, also where the label was withheld.
        score: its calibrated probability, in [0, 1]; None where there was none.
        classifier: fingerprint of the classifier.
        run: name of the run.
    """

    label: str | None
    score: float | None
    classifier: str
    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelEvent(JsonValue):
    """A person gave a label to an image, or said that it has none.

    Attributes:
        id: 32 hexadecimal digits, of this event alone.
        time: UTC to the microsecond, such as "2026-11-30T15:50:01.123456Z"; later than every event its writer had read.
        by: who gave the label.
        archive: see `ImageId`.
        image: see `ImageId`.
        answer: kind of the answer.
        label: the class, where the answer is one; None otherwise.
        reason: why the image was shown.
        draw: of an audit: the draw that the image belongs to; None otherwise.
        probability: of an audit: the probability with which the image was drawn, in (0, 1]; None where it is unknown.
        predicted: what was predicted; None where nothing was.
        content: digest of the image, where it had changed since its first copy and has another one; None otherwise.
    """

    omitted: ClassVar[frozenset[str]] = frozenset({"content"})
    kind: Literal["label"] = "label"
    id: str
    time: str
    by: str
    archive: str
    image: str
    answer: Answer
    label: str | None = None
    reason: Reason
    draw: str | None = None
    probability: float | None = None
    predicted: Predicted | None = None
    content: str | None = None

    def __post_init__(self) -> None:
        """Check that values fit each other.

        Raises:
            ValueError: they do not.
        """
        _check_header(self.id, self.time)
        if (self.answer == "label") != bool(self.label):
            raise ValueError(f"expected a label exactly where the answer is one, got {self.answer} with {self.label!r}")
        if self.probability is not None and not 0 < self.probability <= 1:
            raise ValueError(f"expected a probability in (0, 1], got {self.probability}")
        if self.reason == "audit" and (self.draw is None or self.probability is None):
            raise ValueError("expected the draw and the probability of an image of an audit")

    @property
    def image_id(self) -> ImageId:
        """The image."""
        return ImageId(self.archive, self.image)


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoEvent(JsonValue):
    """A person took an event back; an undone undo event counts as if it had never been.

    Attributes:
        id: 32 hexadecimal digits, of this event alone.
        time: as that of a `LabelEvent`. An event that is not older than this one is not undone by it.
        by: who undid it.
        undoes: ID of the event.
    """

    kind: Literal["undo"] = "undo"
    id: str
    time: str
    by: str
    undoes: str

    def __post_init__(self) -> None:
        """Check the ID and the time.

        Raises:
            ValueError: they are wrong.
        """
        _check_header(self.id, self.time)


Event: TypeAlias = LabelEvent | UndoEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class EventBatch(JsonDocument):
    """Events that were written at once: an object of the ledger.

    Attributes:
        events: in the order in which they happened.
    """

    format_version: ClassVar[int] = 1
    events: tuple[Event, ...]


def new_id() -> str:
    """Return an ID that no other event has."""
    return uuid4().hex


def later_than(latest: str | None, now: datetime) -> str:
    """Return the time of a new event: now, or a microsecond after the latest known event where that clock is ahead.

    So an event is later than all that its writer knew, whatever clocks say.
    """
    written = now.astimezone(UTC).strftime(TIME_FORMAT)
    if latest is None or written > latest:
        return written
    after = datetime.strptime(latest, TIME_FORMAT).replace(tzinfo=UTC) + timedelta(microseconds=1)
    return after.strftime(TIME_FORMAT)


def _check_header(event_id: str, time: str) -> None:
    if len(event_id) != 32 or not set(event_id) <= set("0123456789abcdef"):
        raise ValueError(f"expected an ID of 32 hexadecimal digits, got {event_id!r}")
    if datetime.strptime(time, TIME_FORMAT).replace(tzinfo=UTC).strftime(TIME_FORMAT) != time:
        raise ValueError(f"expected a time such as 2026-11-30T15:50:01.123456Z, got {time!r}")
    if time >= _TOO_LATE:
        raise ValueError(f"expected a time that others can be later than, got {time!r}")
