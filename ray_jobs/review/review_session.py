"""A person at work on the labels of a run: screens come out, decisions go into the ledger before the next screen.

All that a session knows beside the ledger can be made again from it, so that nothing is lost with the process.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from random import Random
from threading import RLock
from time import monotonic
from typing import NamedTuple
from uuid import uuid4

from ray_jobs.errors import JobError
from ray_jobs.labels.current_labels import CurrentLabels, current_labels
from ray_jobs.labels.kept_images import Kept, keep_images
from ray_jobs.labels.label_event import Event, LabelEvent, Predicted
from ray_jobs.labels.label_ledger import NO_TIME
from ray_jobs.labels.labelled_archive import LabelledArchive
from ray_jobs.review.decisions import (
    Decision,
    ImageAnswer,
    MissCount,
    count_missed,
    event_id,
    last_batch,
    proposed_wrongly,
    undo_events,
)
from ray_jobs.review.nearest_examples import NearestExamples
from ray_jobs.review.prediction_index import Cursor, IndexedImage, PredictionIndex
from ray_jobs.review.screens import PLANTED_SHARE, Screen, ScreenAddress, ScreenImage, with_planted
from ray_jobs.review.shown_lists import ShownList, list_paths, read_list
from ray_jobs.review.thumbnails import ImageCache

TITLES = {
    "least": "Least certain",
    "large": "One at a time, least certain first",
    "disagreements": "Two runs disagree",
    "skipped": "Skipped",
}
LISTED_S = 0.5
"""Seconds for which the ledger is not listed again, so that a page lists it once."""
MOST_KNOWN = 100
"""Labelled images from which those that are planted on a screen are drawn, at most."""


class LastBatch(NamedTuple):
    """What `undo` takes back.

    Attributes:
        id: of its first event.
        images: number of images.
    """

    id: str
    images: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a person is.

    Attributes:
        labelled: images that the person gave an answer that counts.
        missed: see `MissCount`.
        last: what would be undone; None if there is nothing.
    """

    labelled: int
    missed: MissCount
    last: LastBatch | None


class OtherArchiveError(JobError):
    """A list of the output has images of another archive than the run that is reviewed."""


class ReviewSession:
    """Screens of a run, and what is decided about them. Methods may be called by several threads.

    Args:
        archive: of the run.
        index: of the run.
        by: the person.
        size: images of a screen.
        other: file of the index of another run to compare with; None without one.
        classes: all classes of the classifier; those that were predicted need not be among them.
        planted: share of images on screens of a class that are known to be of another one, in [0, 1].
    """

    def __init__(
        self,
        archive: LabelledArchive,
        index: PredictionIndex,
        *,
        by: str,
        size: int = 24,
        other: Path | None = None,
        classes: Collection[str] = (),
        planted: float = PLANTED_SHARE,
    ) -> None:
        self.archive, self.index, self.by, self.size = archive, index, by, size
        self.images, self.nearest = ImageCache(archive), NearestExamples(archive)
        self._planted = planted
        self._other, self._all_classes = other, frozenset(classes)
        self._lock = RLock()
        self._current = CurrentLabels()
        self._events: list[Event] = []
        self._batches: list[tuple[Event, ...]] = []
        self._listed_at = float("-inf")
        self._answered: frozenset[str] = frozenset()
        self._lists: dict[str, tuple[str, ShownList, dict[str, int]]] = {}
        self.classes = {name: number for number, name in enumerate(index.classes)}

    @property
    def labels(self) -> list[str]:
        """All classes: the classifier's, and those that only the ledger has."""
        self.refresh()
        given = {event.label for event in self._current.answers.values() if event.label}
        return sorted({*self.index.classes, *self._all_classes, *given}, key=lambda name: (name.casefold(), name))

    @property
    def compares(self) -> bool:
        """Whether there is another run to compare with."""
        return self._other is not None

    def refresh(self, *, at_once: bool = False) -> CurrentLabels:
        """Read what is new in the ledger, from other people too, and return what holds now.

        Args:
            at_once: list the ledger even if that was done less than `LISTED_S` ago.

        Raises:
            FormatError: a batch is damaged.
            StorageError: storage does not respond.
        """
        with self._lock:
            if at_once or monotonic() > self._listed_at + LISTED_S:
                self._take(self.archive.ledger.batches())
                self._listed_at = monotonic()
            return self._current

    def _take(self, batches: list[tuple[Event, ...]]) -> None:
        events = [event for batch in batches for event in batch]
        if len(events) != len(self._events):
            self._current = current_labels(events)
            answered = frozenset(self._current.of_archive(self.archive.source.identity))
            self.index.set_answered(added=answered - self._answered, removed=self._answered - answered)
            self._answered, self._batches, self._events = answered, batches, events

    def progress(self) -> Progress:
        """Return how far the person is. Raises as `refresh`."""
        with self._lock:
            current = self.refresh()
            mine = sum(event.by == self.by for event in current.answers.values())
            last = last_batch(self._batches, by=self.by, archive=self.archive.source.identity)
            missed = count_missed(self._events, by=self.by)
        return Progress(mine, missed, LastBatch(last[0].id, len(last)) if last else None)

    def list_paths(self) -> dict[str, str]:
        """Return the lists of the output, see `ray_jobs.review.shown_lists.list_paths`."""
        return list_paths(self.archive.store)

    def list_titles(self) -> dict[str, str]:
        """Return the lists of images of this archive with their headings, sorted by these.

        The heading of a list that cannot be read is its name.
        """
        titles = {}
        for name in sorted(self.list_paths()):
            try:
                titles[name] = self._read_list(name)[0].title
            except OtherArchiveError:
                continue
            except (JobError, FileNotFoundError):
                titles[name] = name
        return dict(sorted(titles.items(), key=lambda item: (item[1], item[0])))

    def screen(self, address: ScreenAddress, *, screen_id: str | None = None) -> Screen:
        """Return a screen and begin to read the pictures of the one behind it.

        Args:
            address: of the screen.
            screen_id: seed of what is planted on it; None plants nothing.

        Raises:
            JobError: there is no such class or list.
            StorageError, FormatError: as `refresh`.
        """
        with self._lock:
            current = self.refresh()
            shown = self._screen(address, current)
            if address.kind == "class" and screen_id is not None and shown.images:
                random = Random(screen_id)  # noqa: S311 -- not a secret
                shown = with_planted(shown, self._known(current, random), random, share=self._planted)
        self.images.prefetch(each.image for each in shown.images)
        return shown

    def following(self, screen: Screen) -> Screen:
        """Return the screen behind another, without what may be planted on it; its pictures are read ahead."""
        return self.screen(screen.following)

    def _screen(self, address: ScreenAddress, current: CurrentLabels) -> Screen:
        if address.kind == "class":
            if address.name not in self.classes:
                raise JobError([f"no image was predicted to be {address.name!r}"])
            return self._page(address, self.index.of_class(self.classes[address.name], self.size, address.after))
        if address.kind in ("least", "large"):
            count = 1 if address.kind == "large" else self.size
            return self._page(address, self.index.least_certain(count, address.after))
        if address.kind == "list":
            return self._of_list(address, current)
        if address.kind == "skipped":
            return self._page(address, self._skipped(current, address.after))
        return self._page_of_numbers(address, self._disagreements, self.index.answered())

    def _page(self, address: ScreenAddress, images: Sequence[IndexedImage]) -> Screen:
        shown = tuple(ScreenImage(image, image.label) for image in images)
        following = replace(address, after=images[-1].cursor if images else address.after)
        return Screen(address, TITLES.get(address.kind, address.name), shown, "review", None, following)

    def _page_of_numbers(self, address: ScreenAddress, numbers: Sequence[int], answered: frozenset[int]) -> Screen:
        """Return a screen of a list that is in memory; its cursor has the position in the list."""
        start = 0 if address.after is None else address.after.id
        chosen = list(
            islice(((at, each) for at, each in enumerate(numbers[start:], start) if each not in answered), self.size)
        )
        screen = self._page(address, self.index.images([number for _, number in chosen]))
        after = Cursor(0.0, chosen[-1][0] + 1) if chosen else address.after
        return replace(screen, following=replace(address, after=after))

    def _of_list(self, address: ScreenAddress, current: CurrentLabels) -> Screen:
        shown, numbers = self._read_list(address.name)
        if shown.kind == "audit":
            done = current.draws.get(shown.name, {})
            answered = frozenset(
                numbers[image.image]
                for image in done
                if image.archive == self.archive.source.identity and image.image in numbers
            )
        else:
            answered = self.index.answered()
        screen = self._page_of_numbers(address, list(numbers.values()), answered)
        proposed = next((name for name in self.index.classes if shown.query and _same(name, shown.query)), None)
        listed = {image.image: image for image in shown.images}
        is_audit = shown.kind == "audit"
        images = tuple(
            replace(
                each,
                proposed=None if is_audit else proposed or each.proposed,
                why=listed[each.image.image].why,
                probability=listed[each.image.image].probability,
            )
            for each in screen.images
        )
        draw = shown.name if is_audit else None
        return replace(screen, title=shown.title, images=images, reason=shown.kind, draw=draw)

    def _read_list(self, name: str) -> tuple[ShownList, dict[str, int]]:
        """Return a list and the numbers of its images; it is read again only where another sample has come."""
        path = self.list_paths().get(name)
        if path is None:
            raise JobError([f"no list {name!r} in {self.archive.store.root}"])
        if name not in self._lists or self._lists[name][0] != path:
            shown = read_list(self.archive.store, name, path)
            if shown.archive not in (None, self.archive.source.identity):
                raise OtherArchiveError(
                    [f"the list {name!r} is of images of another archive; name the run of that one"]
                )
            found = self.index.find(image.image for image in shown.images)
            self._lists[name] = (path, shown, found)
        return self._lists[name][1:]

    @cached_property
    def _disagreements(self) -> list[int]:
        if self._other is None:
            raise JobError(["there is no other run to compare with; name one with --against"])
        return self.index.disagreements(self._other)

    def _skipped(self, current: CurrentLabels, after: Cursor | None) -> list[IndexedImage]:
        events = current.of_archive(self.archive.source.identity)
        skipped = sorted(
            self.index.find(image for image, event in events.items() if event.answer == "skipped").values()
        )
        behind = [number for number in skipped if after is None or number > after.id]
        return self.index.images(behind[: self.size])

    def _known(self, current: CurrentLabels, random: Random) -> list[tuple[IndexedImage, str]]:
        """Return some images whose label people gave, to plant."""
        events = current.of_archive(self.archive.source.identity)
        labels = {image: event.label for image, event in events.items() if event.label is not None}
        numbers = self.index.find(random.sample(sorted(labels), min(MOST_KNOWN, len(labels))))
        return [(image, labels[image.image]) for image in self.index.images(list(numbers.values()))]

    def decide(self, decision: Decision) -> int:
        """Write a decision into the ledger, after copies of its images; it is there when this returns.

        A decision that is there already is not written again.

        Returns:
            the number of events that are new.

        Raises:
            JobError: it is about another index or images that do not exist or cannot be read. Nothing was written.
            StorageError, FormatError: as `refresh`.
        """
        if decision.index != self.index.name:
            raise JobError(["this screen is of another run; open it again"])
        images = {image.id: image for image in self.index.images([each.id for each in decision.answers])}
        if missing := [each.id for each in decision.answers if each.id not in images]:
            raise JobError([f"no image {missing[0]} in the index"])
        kept = self._copy([images[each.id] for each in decision.answers if each.answer == "label"])
        with self._lock:
            self.refresh(at_once=True)
            known = {event.id for event in self._events}
            rows = [(each, images[each.id]) for each in decision.answers]
            events = [self._event(decision, each, image, kept.get(image.image)) for each, image in rows]
            new = [event for event in events if event.id not in known]
            self.archive.ledger.append(new)
            self.refresh(at_once=True)
        return len(new)

    def _copy(self, images: Sequence[IndexedImage]) -> dict[str, Kept]:
        """Copy images into the ledger, and return the copies by key."""
        loaded = self.images.contents(images)
        problems = [f"{image.image}: {loaded[image.id].problem}" for image in images if loaded[image.id].problem]
        if problems:
            raise JobError(["an image cannot be read, so it cannot be labelled", *problems])
        contents = {self.archive.image_id(image.image): loaded[image.id].content for image in images}
        kept = keep_images(self.archive.ledger.store, contents)
        return {image.image: copy for image, copy in kept.items()}

    def _event(self, decision: Decision, given: ImageAnswer, image: IndexedImage, kept: Kept | None) -> LabelEvent:
        address, run = decision.address, self.archive.run.name
        classifier = self.archive.classifier
        predicted = Predicted(label=image.label, score=image.score, classifier=classifier, run=run)
        reason, draw, probability = "review", None, None
        if address.kind == "class" and image.label != address.name:
            reason, predicted = "planted", proposed_wrongly(address.name, classifier=classifier, run=run)
        elif address.kind == "list":
            shown, _ = self._read_list(address.name)
            listed = next((each for each in shown.images if each.image == image.image), None)
            if listed is None:
                raise JobError([f"{image.image} is not in the list {address.name}"])
            reason, probability = shown.kind, listed.probability
            draw = shown.name if shown.kind == "audit" else None
        return LabelEvent(
            id=event_id(decision.screen, image.image, given.answer, given.label, self.by),
            time=NO_TIME,
            by=self.by,
            archive=self.archive.source.identity,
            image=image.image,
            answer=given.answer,
            label=given.label,
            reason=reason,  # type: ignore[arg-type]
            draw=draw,
            probability=probability,
            predicted=predicted,
            content=None if kept is None else kept.content,
        )

    def undo(self, batch: str) -> int:
        """Undo what the person decided at once, unless that is undone.

        Args:
            batch: ID of its first event, see `LastBatch`.

        Returns:
            the number of images.

        Raises:
            JobError: there is no such batch of this person.
            StorageError, FormatError: as `refresh`.
        """
        with self._lock:
            self.refresh(at_once=True)
            events = next((each for each in self._batches if any(event.id == batch for event in each)), ())
            if not events or any(event.by != self.by for event in events):
                raise JobError([f"{self.by} has decided nothing that is called {batch}"])
            known = {event.id for event in self._events}
            new = [event for event in undo_events(events, by=self.by) if event.id not in known]
            self.archive.ledger.append(new)
            self.refresh(at_once=True)
        return len(new)

    def class_counts(self) -> Mapping[str, tuple[int, int]]:
        """Return for each class how many images were predicted to be of it, and how many of these were answered."""
        self.refresh()
        answered = self.index.answered_counts()
        counts = enumerate(zip(self.index.classes, self.index.counts, strict=True))
        return {name: (images, answered.get(number, 0)) for number, (name, images) in counts}


def new_screen_id() -> str:
    """Return an ID of a showing of a screen."""
    return uuid4().hex


def _same(name: str, query: str) -> bool:
    return name.casefold().replace("_", " ") == query.casefold().replace("_", " ").strip()
