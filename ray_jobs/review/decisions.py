"""What a person says about a screen, as events of the ledger, and how much of what is known to be wrong was missed.

The ID of an event is a digest of what it says and of the screen on which it was said. So a decision that arrives twice,
because a browser or a person sent it again, is written once, whichever server it arrives at.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from fewshot.data import Example, problem_with_label
from ray_jobs.errors import JobError
from ray_jobs.labels.label_event import Answer, Event, LabelEvent, Predicted, UndoEvent
from ray_jobs.labels.label_ledger import NO_TIME
from ray_jobs.review.screens import ScreenAddress

ANSWERS: tuple[Answer, ...] = get_args(Answer)


@dataclass(frozen=True, slots=True)
class ImageAnswer:
    """What a person says about an image.

    Attributes:
        id: number of the image in the index.
        answer: kind of the answer.
        label: the class, where the answer is one.
    """

    id: int
    answer: Answer
    label: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person says about a screen.

    Attributes:
        screen: 32 hexadecimal digits, of this showing of the screen alone.
        address: of the screen.
        index: name of the index that numbers its images.
        answers: of its images; those that are missing stay open.
    """

    screen: str
    address: ScreenAddress
    index: str
    answers: tuple[ImageAnswer, ...]


def read_decision(body: bytes, *, most: int) -> Decision:
    """Read a decision as the page sends it.

    Args:
        body: JSON.
        most: number of images that a screen has, at most.

    Raises:
        JobError: it is wrong.
    """
    try:
        content = json.loads(body)
        answers = tuple(_answer(row) for row in content["answers"])
        if not _is_id(content["screen"]) or len({each.id for each in answers}) < len(answers) or len(answers) > most:
            raise ValueError("not of one screen")
        address = ScreenAddress.parse(*(str(content[key]) for key in ("kind", "name", "after")))
        return Decision(content["screen"], address, str(content["index"]), answers)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise JobError([f"this is no decision about a screen ({type(error).__name__}: {error})"]) from error


def _answer(row: Mapping[str, Any]) -> ImageAnswer:
    number, answer, label = row["id"], row["answer"], row.get("label")
    if type(number) is not int or answer not in ANSWERS or (answer == "label") != isinstance(label, str):
        raise ValueError(f"expected a number, an answer and its label, got {number!r}, {answer!r}, {label!r}")
    return ImageAnswer(number, answer, None if label is None else checked_label(label))


def checked_label(label: str) -> str:
    """Return the name of a class in the form in which examples have it.

    Raises:
        ValueError: it cannot be the name of a class.
    """
    label = Example("", label).label
    if (problem := problem_with_label(label)) is not None:
        raise ValueError(problem)
    return label


def event_id(*parts: object) -> str:
    """Return the ID of an event: the same for the same parts."""
    text = json.dumps([str(part) for part in parts], ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def undo_events(events: Iterable[Event], *, by: str) -> list[UndoEvent]:
    """Return what undoes label events; the same however often it is asked for."""
    return [
        UndoEvent(id=event_id("undo", event.id, by), time=NO_TIME, by=by, undoes=event.id)
        for event in events
        if isinstance(event, LabelEvent)
    ]


def last_batch(batches: Sequence[Sequence[Event]], *, by: str, archive: str) -> tuple[LabelEvent, ...]:
    """Return the last label events that a person wrote at once in review and has not undone; () if there are none.

    Args:
        batches: of the ledger, in order.
        by: the person.
        archive: identity of the archive whose labels are meant: a ledger may have those of several.
    """
    undone: set[str] = set()
    for batch in reversed(batches):
        undone |= {event.undoes for event in batch if isinstance(event, UndoEvent)}
        given = (event for event in batch if isinstance(event, LabelEvent))
        labels = tuple(event for event in given if (event.by, event.archive) == (by, archive))
        if labels and labels[0].reason != "import" and any(event.id not in undone for event in labels):
            return labels
    return ()


@dataclass(frozen=True, slots=True)
class MissCount:
    """How a person did on images whose label was known to be another one than was proposed.

    Attributes:
        shown: number of these images.
        missed: how many of them got the label that was proposed.
    """

    shown: int = 0
    missed: int = 0


def count_missed(events: Sequence[Event], *, by: str) -> MissCount:
    """Count what a person missed; `predicted` of planted events has the class that was proposed."""
    undone = {event.undoes for event in events if isinstance(event, UndoEvent)}
    planted = {
        event.id: event
        for event in events
        if isinstance(event, LabelEvent) and event.reason == "planted" and event.by == by and event.id not in undone
    }
    missed = sum(event.predicted is not None and event.label == event.predicted.label for event in planted.values())
    return MissCount(len(planted), missed)


def proposed_wrongly(label: str, *, classifier: str, run: str) -> Predicted:
    """Return what planted events have in the place of a prediction: the class that was proposed."""
    return Predicted(label=label, score=None, classifier=classifier, run=run)


def _is_id(text: object) -> bool:
    return isinstance(text, str) and len(text) == 32 and set(text) <= set("0123456789abcdef")
