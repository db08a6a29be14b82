"""The fold of label events: a function of the set of events, whatever their order, repetition and objects."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.labels import Event, ImageId, LabelEvent, UndoEvent, current_labels

PEOPLE, IMAGES = ("ada", "bob"), ("a.jpg", "b.jpg", "c.jpg")


def time(number: int) -> str:
    return f"2026-11-30T12:00:00.{number:06d}Z"


def label(number: int, image: str = "a.jpg", name: str | None = "cat", **others: object) -> LabelEvent:
    values = {"by": "ada", "answer": "label", "reason": "review", "archive": "here", "time": time(number)} | others
    return LabelEvent(id=f"{number:032x}", image=image, label=name, **values)  # type: ignore[arg-type]


def undo(number: int, target: int, **others: object) -> UndoEvent:
    values = {"by": "ada", "time": time(number)} | others
    return UndoEvent(id=f"{number:032x}", undoes=f"{target:032x}", **values)  # type: ignore[arg-type]


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    events: list[Event] = []
    for number in range(draw(st.integers(0, 12))):
        if events and draw(st.booleans()):
            events.append(undo(number, draw(st.integers(0, number)), time=time(draw(st.integers(0, 12)))))
        else:
            answer = draw(st.sampled_from(("label", "unknown", "skipped")))
            name = draw(st.sampled_from(("cat", "dog"))) if answer == "label" else None
            image, by = draw(st.sampled_from(IMAGES)), draw(st.sampled_from(PEOPLE))
            when = time(draw(st.integers(0, 12)))
            events.append(label(number, image, name, answer=answer, by=by, time=when))
    return events


@given(history=histories(), seed=st.integers(0, 99))
def test_order_and_repetition_change_nothing(history: list[Event], seed: int) -> None:
    shuffled = history + history[: len(history) // 2]
    random.Random(seed).shuffle(shuffled)
    assert current_labels(shuffled) == current_labels(history)


@given(history=histories())
def test_an_undo_at_the_end_takes_one_event_away(history: list[Event]) -> None:
    events = [event for event in history if isinstance(event, LabelEvent)]
    for event in events[:2]:
        taken = undo(99, int(event.id, 16), time=time(999))
        without = [other for other in history if other.id != event.id]
        assert current_labels([*history, taken]).answers == current_labels(without).answers


@given(history=histories())
def test_an_undone_undo_counts_as_if_it_had_never_been(history: list[Event]) -> None:
    events = [event for event in history if isinstance(event, LabelEvent)]
    for event in events[:2]:
        taken, back = undo(98, int(event.id, 16), time=time(998)), undo(99, 98, time=time(999))
        assert current_labels([*history, taken, back]) == current_labels(history)


def test_the_latest_answer_of_an_image_counts() -> None:
    current = current_labels([label(2, name="dog"), label(1, name="cat")])
    assert current.answers[ImageId("here", "a.jpg")].label == "dog"


def test_images_of_two_archives_with_one_key_are_two_images() -> None:
    current = current_labels([label(1, name="dog"), label(2, name="cat", archive="there")])
    assert {event.label for event in current.answers.values()} == {"cat", "dog"}
    assert current.of_archive("there")["a.jpg"].label == "cat"


def test_a_skipped_image_keeps_its_earlier_label() -> None:
    current = current_labels([label(1), label(2, name=None, answer="skipped")])
    assert current.answers[ImageId("here", "a.jpg")].label == "cat"
    assert current_labels([label(2, name=None, answer="skipped")]).answers[ImageId("here", "a.jpg")].label is None


def test_a_planted_image_gets_no_label() -> None:
    assert not current_labels([label(1, reason="planted")]).answers


def test_an_undo_that_is_older_than_its_event_undoes_nothing() -> None:
    current = current_labels([label(2), undo(3, 2, time=time(1))])
    assert current.answers
    assert current.undone == 0


def test_different_labels_of_two_people_are_disputed_until_one_agrees() -> None:
    events = [label(1, name="cat"), label(2, name="dog", by="bob")]
    assert set(current_labels(events).disputed) == {ImageId("here", "a.jpg")}
    assert not current_labels([*events, label(3, name="dog")]).disputed
    assert not current_labels([label(1, name="cat"), label(2, name="dog")]).disputed


def test_who_skips_an_image_disputes_no_label() -> None:
    assert not current_labels([label(1), label(2, name=None, answer="skipped", by="bob")]).disputed


def test_a_label_and_an_answer_without_one_are_disputed() -> None:
    events = [label(1, name=None, answer="unknown"), label(2, name=None, answer="unreadable", by="bob")]
    assert current_labels(events).disputed


def test_only_undone_labels_are_counted_as_undone() -> None:
    assert current_labels([label(1), undo(2, 1), undo(3, 2), undo(4, 3)]).undone == 1


def test_of_events_at_one_time_the_larger_id_is_later() -> None:
    assert not current_labels([label(2), undo(3, 2, time=time(2))]).answers
    assert current_labels([label(3), undo(2, 3, time=time(3))]).answers


def test_events_that_wrongly_share_an_id_have_one_order() -> None:
    events = [label(1, name="cat"), label(1, name="dog")]
    assert current_labels(events) == current_labels(events[::-1])


def test_every_answer_to_an_image_of_a_draw_belongs_to_it() -> None:
    assert set(current_labels([label(1, draw="d1", reason="correction")]).draws) == {"d1"}


def test_answers_of_an_audit_are_kept_by_draw() -> None:
    drawn = label(1, reason="audit", draw="d1", probability=0.5)
    current = current_labels([drawn, label(2, name="dog")])
    assert current.draws == {"d1": {ImageId("here", "a.jpg"): drawn}}
    assert current.answers[ImageId("here", "a.jpg")].label == "dog"
    assert not current_labels([drawn, undo(2, 1)]).draws
