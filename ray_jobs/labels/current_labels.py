"""What events come to: the label that each image has now. A pure function of the set of events.

Order, repetition and the objects in which events lie change nothing. Of several answers to an image the latest counts;
times tie by ID. "I cannot say" takes no earlier label away. Planted images have no label from these events.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ray_jobs.labels.label_event import Event, ImageId, LabelEvent, UndoEvent


@dataclass(frozen=True, slots=True)
class CurrentLabels:
    """The labels of images.

    Attributes:
        answers: the event that counts, by image.
        draws: of the images that were answered for an audit, the event of that audit, by draw and image. The label
            that counts may be a later one, in `answers`.
        disputed: images that people labelled differently, with the latest event of each person.
        undone: number of label events that were undone.
    """

    answers: Mapping[ImageId, LabelEvent] = field(default_factory=dict)
    draws: Mapping[str, Mapping[ImageId, LabelEvent]] = field(default_factory=dict)
    disputed: Mapping[ImageId, tuple[LabelEvent, ...]] = field(default_factory=dict)
    undone: int = 0

    def of_archive(self, archive: str) -> dict[str, LabelEvent]:
        """Return the events that count for the images of an archive, by key."""
        return {image.image: event for image, event in self.answers.items() if image.archive == archive}


def current_labels(events: Iterable[Event]) -> CurrentLabels:
    """Return what events come to.

    Args:
        events: in any order, some perhaps twice.
    """
    unique = _unique(events)
    undone = _undone([event for event in unique.values() if isinstance(event, UndoEvent)], unique)
    labels = [event for event in unique.values() if isinstance(event, LabelEvent)]
    valid = [event for event in labels if event.id not in undone and event.reason != "planted"]
    answers: dict[ImageId, LabelEvent] = {}
    draws: defaultdict[str, dict[ImageId, LabelEvent]] = defaultdict(dict)
    people: defaultdict[ImageId, dict[str, LabelEvent]] = defaultdict(dict)
    for event in valid:  # In ascending order, so later events replace earlier ones.
        image = event.image_id
        if event.answer != "skipped" or image not in answers:
            answers[image] = event
        if event.draw is not None:
            draws[event.draw][image] = event
        if event.answer != "skipped":
            people[image][event.by] = event
    disputed = {
        image: tuple(by_person.values())
        for image, by_person in people.items()
        if len({(event.answer, event.label) for event in by_person.values()}) > 1
    }
    return CurrentLabels(answers, dict(draws), disputed, sum(event.id in undone for event in labels))


def _unique(events: Iterable[Event]) -> dict[str, Event]:
    """Return events by ID, in order; of those that wrongly share an ID, one that their order does not decide."""
    found: dict[str, Event] = {}
    for event in events:
        known = found.setdefault(event.id, event)
        if known is not event and known != event:
            found[event.id] = max(known, event, key=lambda each: (each.time, repr(each)))
    return dict(sorted(found.items(), key=lambda item: _order(item[1])))


def _order(event: Event) -> tuple[str, str]:
    return event.time, event.id


def _undone(undos: Iterable[UndoEvent], events: Mapping[str, Event]) -> frozenset[str]:
    """Return the IDs of undone events; undo events are looked at from the latest, since a later one may undo it."""
    undone: set[str] = set()
    for undo in sorted(undos, key=_order, reverse=True):
        target = events.get(undo.undoes)
        if undo.id not in undone and target is not None and _order(target) < _order(undo):
            undone.add(undo.undoes)
    return frozenset(undone)
