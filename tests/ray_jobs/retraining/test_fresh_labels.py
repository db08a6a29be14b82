"""Labels as evidence: which count, for which versions, with which weight."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest

from ray_jobs.labels.kept_images import kept_reference
from ray_jobs.labels.label_event import LabelEvent, Reason
from ray_jobs.retraining.fresh_labels import (
    ComparedVersion,
    FreshLabel,
    ScoredLabel,
    check_labels,
    compare,
    fresh_for,
    labels_for_evidence,
)


def event(
    number: int, label: str = "amber", *, reason: Reason = "review", probability: float | None = None
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


def test_labels_count_once_by_content_in_the_order_in_which_they_were_given() -> None:
    events = [event(2, "blue"), event(1), event(3)]
    found = labels_for_evidence(events, digests(*events))
    assert [(each.content, each.label) for each in found] == [
        ("content 1.png", "amber"),
        ("content 2.png", "blue"),
        ("content 3.png", "amber"),
    ]


def test_corrections_and_images_that_cannot_be_read_are_no_evidence() -> None:
    events = [event(1, reason="correction"), event(2), event(3)]
    known = digests(*events) | {kept_reference(events[1]): ""}
    assert [each.content for each in labels_for_evidence(events, known)] == ["content 3.png"]
    assert labels_for_evidence(events, {}) == ()


def test_copies_of_an_image_count_once_and_not_at_all_where_people_disagree() -> None:
    same = [event(1), event(2), event(3), event(4, "blue")]
    contents = {kept_reference(each): content for each, content in zip(same, "xxyy", strict=True)}
    assert [each.content for each in labels_for_evidence(same, contents)] == ["x"]


def test_only_drawn_labels_are_evidence_for_the_archive() -> None:
    events = [event(1, reason="audit", probability=0.25), event(2, reason="suggestion")]
    assert [each.probability for each in labels_for_evidence(events, digests(*events))] == [0.25, None]
    assert [each.probability for each in labels_for_evidence(events, digests(*events), "audit")] == [0.25]


def test_labels_are_fresh_for_versions_that_neither_learned_from_them_nor_lack_their_class() -> None:
    labels = [FreshLabel(content, label, None) for content, label in ("1a", "2b", "3a", "4c", "5a")]
    everything = dict.fromkeys("1234", "a")
    one, other = version(everything, learned="1"), version(everything, learned="2")
    assert [each.content for each in fresh_for(labels, [one])] == ["2", "3"]
    assert [each.content for each in fresh_for(labels, [one, other])] == ["3"]


def test_gains_are_one_where_only_the_newer_version_is_right() -> None:
    labels = [FreshLabel(content, "a", None) for content in "1234"]
    newer, older = version(dict(zip("1234", "aabb", strict=True))), version(dict(zip("1234", "abab", strict=True)))
    found = compare(labels, [newer], older)
    assert found.gains.tolist() == [0, 1, -1, 0]
    assert found.weights is None
    assert compare([], [newer], older, "audit").log_evidence() == pytest.approx(0.0)


def test_of_a_chain_each_label_is_judged_by_the_version_that_it_came_to() -> None:
    labels = [FreshLabel(content, "a", None) for content in "123"]
    shadow = version({"1": "a", "2": "a", "3": "a"})
    first = version({"1": "a", "2": "b", "3": "b"}, learned="1")  # Image 1 is known to all that came later.
    second = version({"1": "b", "2": "a", "3": "a"}, learned="12")
    assert compare(labels, [first, second], shadow).gains.tolist() == [-1, 0]  # Image 2 by the first, 3 by the second.


def test_labels_of_audits_are_weighted_by_their_inverse_probability() -> None:
    labels = [FreshLabel("1", "a", 0.5), FreshLabel("2", "a", 0.1)]
    found = compare(labels, [version({"1": "a", "2": "b"})], version({"1": "b", "2": "a"}), "audit")
    assert found.weights is not None
    assert np.allclose(found.weights, [2 / 6, 10 / 6])
    assert found.log_harm() > found.log_evidence()


def test_labels_that_contradict_sure_predictions_are_told_with_their_classes() -> None:
    labels = [FreshLabel(str(number), "a", None) for number in range(40)]
    wrong = version({str(number): "ab"[number % 2] for number in range(40)}, score=0.95)
    found = check_labels(labels, wrong)
    assert (found.is_suspicious, found.classes, found.agreeing) == (True, ("a",), 20)
    unscored = version({str(number): "ab"[number % 2] for number in range(40)}, score=nan)
    assert (check_labels(labels, unscored).labels, check_labels(labels, unscored).is_suspicious) == (0, False)
