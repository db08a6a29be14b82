"""Labels as evidence: which count, for which versions, with which weight."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ray_jobs.audit.stored_draw import StoredImage, StoredSample
from ray_jobs.labels.current_labels import current_labels
from ray_jobs.labels.kept_images import kept_reference
from ray_jobs.labels.label_event import LabelEvent, Reason
from ray_jobs.retraining.fresh_labels import (
    ComparedVersion,
    EvidenceOf,
    FreshLabel,
    ScoredLabel,
    compare,
    fresh_for,
    labels_for_evidence,
)


def event(
    number: int, label: str = "amber", *, reason: Reason = "import", probability: float | None = None
) -> LabelEvent:
    return LabelEvent(
        id=f"{number:032x}",
        time=f"2026-11-30T03:00:{number:02}.000000Z",
        by="ann",
        archive="archive",
        image=f"{number}.png",
        answer="label",
        label=label,
        reason=reason,
        draw="draw" if reason == "audit" else None,
        probability=probability,
    )


def digests(*events: LabelEvent) -> dict[str, str]:
    return {kept_reference(each): f"content {each.image}" for each in events}


def version(
    predicted: dict[str, str], *, learned: str = "", classes: str = "ab", score: float = 0.9
) -> ComparedVersion:
    scored = {content: ScoredLabel(label, score) for content, label in predicted.items()}
    return ComparedVersion(frozenset(classes), frozenset(learned), scored)


def evidence(
    *events: LabelEvent,
    known: dict[str, str] | None = None,
    archive: str = "archive",
    samples: dict[str, StoredSample] | None = None,
    of: EvidenceOf = "all",
) -> tuple[FreshLabel, ...]:
    found = digests(*events) if known is None else known
    drawn = {"draw": sample(9)} if samples is None else samples
    return labels_for_evidence(current_labels(events), found, archive=archive, samples=drawn, of=of)


def sample(images: int, *, floor: int = 0) -> StoredSample:
    """A sample of images with these numbers, of which some are the first of their strata."""
    drawn = [
        StoredImage(
            image=f"{number}.png", source="", status="labelled", label="amber", score=0.5, stratum=0, probability=0.5
        )
        for number in range(1, images + 1)
    ]
    return StoredSample(
        draw="draw", unreadable=0, learned_from=0, floor=floor, strata=(), reaching=(), images=tuple(drawn)
    )


def contents(found: tuple[FreshLabel, ...]) -> list[str]:
    return [each.content for each in found]


def test_labels_count_once_by_content_in_the_order_in_which_they_were_given() -> None:
    found = evidence(event(2, "blue"), event(1), event(3))
    assert [(each.content, each.label) for each in found] == [
        ("content 1.png", "amber"),
        ("content 2.png", "blue"),
        ("content 3.png", "amber"),
    ]


@pytest.mark.parametrize("reason", ["correction", "review", "search", "suggestion", "planted"])
def test_labels_of_images_that_predictions_chose_are_no_evidence(reason: Reason) -> None:
    assert contents(evidence(event(1, reason=reason), event(2))) == ["content 2.png"]


def test_a_drawn_image_stays_evidence_when_its_label_is_corrected_in_review() -> None:
    drawn = event(1, reason="audit", probability=0.5)
    later = replace(event(2, "blue", reason="review"), image=drawn.image)
    assert [each.label for each in evidence(drawn, later)] == ["blue"]


def test_images_that_cannot_be_read_and_other_archives_are_no_evidence() -> None:
    events = [event(2), event(3)]
    assert contents(evidence(*events, known=digests(*events) | {kept_reference(events[0]): ""})) == ["content 3.png"]
    assert contents(evidence(*events, known={})) == []
    assert contents(evidence(*events, archive="another")) == []


def test_an_answer_without_a_label_is_no_evidence() -> None:
    unknown = replace(event(1), answer="unknown", label=None)
    assert contents(evidence(unknown, event(2))) == ["content 2.png"]


def test_copies_of_an_image_count_once_and_not_at_all_where_people_disagree() -> None:
    same = [event(1), event(2), event(3), event(4, "blue")]
    known = {kept_reference(each): content for each, content in zip(same, "xxyy", strict=True)}
    assert contents(evidence(*same, known=known)) == ["x"]


def test_the_first_images_of_an_audit_are_chosen_by_predictions_and_are_no_evidence() -> None:
    events = [event(number, reason="audit", probability=0.5) for number in (1, 2, 3)]
    assert contents(evidence(*events, samples={"draw": sample(3, floor=2)})) == ["content 3.png"]
    assert contents(evidence(*events, samples={})) == []  # Nobody knows how they were drawn.


def test_only_drawn_labels_are_evidence_for_the_archive() -> None:
    events = [event(1, reason="audit", probability=0.25), event(2)]
    assert contents(evidence(*events)) == ["content 1.png", "content 2.png"]
    assert contents(evidence(*events, of="audit")) == ["content 1.png"]


def test_labels_are_fresh_for_versions_that_neither_learned_from_them_nor_lack_their_class() -> None:
    labels = [FreshLabel(content, label) for content, label in ("1a", "2b", "3a", "4c", "5a")]
    everything = dict.fromkeys("1234", "a")
    one, other = version(everything, learned="1"), version(everything, learned="2")
    assert [each.content for each in fresh_for(labels, [one])] == ["2", "3"]
    assert [each.content for each in fresh_for(labels, [one, other])] == ["3"]


def test_gains_are_one_where_only_the_newer_version_is_right() -> None:
    labels = [FreshLabel(content, "a") for content in "1234"]
    newer, older = version(dict(zip("1234", "aabb", strict=True))), version(dict(zip("1234", "abab", strict=True)))
    found = compare(labels, [newer], older)
    assert found.labels == ("a",) * 4
    assert found.comparison.gains.tolist() == [0, 1, -1, 0]
    assert found.classes == 2
    assert compare([], [newer], older).comparison.log_evidence() == pytest.approx(0.0)


def test_labels_that_the_older_version_knows_or_lacks_are_not_compared() -> None:
    labels = [FreshLabel(content, label) for content, label in ("1a", "2a", "3c", "4a")]
    newer = version(dict.fromkeys("1234", "a"), classes="abc")
    older = version(dict.fromkeys("123", "a"), learned="1", classes="abd")
    found = compare(labels, [newer], older)
    assert (found.labels, found.classes) == (("a",), 2)


def test_of_a_chain_each_label_is_compared_with_the_version_that_it_came_to() -> None:
    labels = [FreshLabel(content, "a") for content in "123"]
    shadow = version({"1": "a", "2": "a", "3": "a"})
    first = version({"1": "a", "2": "b", "3": "b"}, learned="1")  # Image 1 is known to all that came later.
    second = version({"1": "b", "2": "a", "3": "a"}, learned="12")
    found = compare(labels, [first, second], shadow)
    assert found.comparison.gains.tolist() == [-1, 0]  # Image 2 by the first, 3 by the second.
    assert found.newer == (0, 1)
    assert [found.watched_enough(labels) for labels in (1, 2, 3)] == [2, 1, 0]


def test_a_class_that_fell_is_found_among_others_that_gained() -> None:
    labels = [FreshLabel(str(number), "ab"[number % 2]) for number in range(60)]
    older = version({each.content: "a" for each in labels})
    newer = version({each.content: "b" for each in labels})
    found = compare(labels, [newer], older)
    assert found.fallen(0.05) == ("a",)
    assert (found.guard("a", 0.05).worse, found.guard("b", 0.05).better) == (30, 30)
    few = compare(labels[:4], [newer], older)
    assert (few.fallen(0.05), few.guard("a", 0.05).state) == ((), "cannot tell")


def test_the_more_classes_there_are_the_more_evidence_a_fall_takes() -> None:
    labels = [FreshLabel(str(number), "a") for number in range(9)]
    predicted = [dict.fromkeys([label.content for label in labels], name) for name in "ab"]
    few = compare(labels, [version(predicted[1])], version(predicted[0]))
    classes = "abcdefghijklmnopqrstuvwxyz"
    many = compare(labels, [version(predicted[1], classes=classes)], version(predicted[0], classes=classes))
    assert (few.fallen(0.05), many.fallen(0.05)) == (("a",), ())
    assert (few.classes, many.classes) == (2, 26)
