"""Labels as evidence: which count, for which versions, with which weight."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ray_jobs.audit.stored_draw import StoredImage, StoredSample, StoredStratum
from ray_jobs.labels.current_labels import current_labels
from ray_jobs.labels.kept_images import kept_reference
from ray_jobs.labels.label_event import LabelEvent, Reason
from ray_jobs.retraining.fresh_labels import (
    ComparedVersion,
    EvidenceLabels,
    FreshLabel,
    ScoredLabel,
    compare,
    corrections,
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


def evidence(*events: LabelEvent, known: dict[str, str] | None = None, archive: str = "archive") -> EvidenceLabels:
    found = digests(*events) if known is None else known
    return labels_for_evidence(current_labels(events), found, archive=archive, samples=None)


def contents(found: EvidenceLabels) -> list[str]:
    return [each.content for each in found.labels]


def test_labels_count_once_by_content_in_the_order_in_which_they_were_given() -> None:
    found = evidence(event(2, "blue"), event(1), event(3))
    assert [(each.content, each.label) for each in found.labels] == [
        ("content 1.png", "amber"),
        ("content 2.png", "blue"),
        ("content 3.png", "amber"),
    ]
    assert found.bound is None


@pytest.mark.parametrize("reason", ["correction", "review", "search", "suggestion", "planted"])
def test_labels_of_images_that_predictions_chose_are_no_evidence(reason: Reason) -> None:
    assert contents(evidence(event(1, reason=reason), event(2))) == ["content 2.png"]


def test_a_drawn_image_stays_evidence_when_its_label_is_corrected_in_review() -> None:
    drawn = event(1, reason="audit", probability=0.5)
    later = replace(event(2, "blue", reason="review"), image=drawn.image)
    assert [each.label for each in evidence(drawn, later).labels] == ["blue"]


def test_images_that_cannot_be_read_and_other_archives_are_no_evidence() -> None:
    events = [event(2), event(3)]
    assert contents(evidence(*events, known=digests(*events) | {kept_reference(events[0]): ""})) == ["content 3.png"]
    assert contents(evidence(*events, known={})) == []
    assert contents(evidence(*events, archive="another")) == []


def test_copies_of_an_image_count_once_and_not_at_all_where_people_disagree() -> None:
    same = [event(1), event(2), event(3), event(4, "blue")]
    known = {kept_reference(each): content for each, content in zip(same, "xxyy", strict=True)}
    assert contents(evidence(*same, known=known)) == ["x"]


def stratum(images: int, drawn: int) -> StoredStratum:
    return StoredStratum(
        status="labelled",
        is_scored=True,
        first_band=0,
        last_band=1,
        label=None,
        images=images,
        drawn=drawn,
        score_sum=1.0,
        least_score=0.0,
        greatest_score=1.0,
        labels={"amber": images},
    )


def sample(*probabilities: float) -> StoredSample:
    """100 images of which 20 are drawn with a probability of 0.5, and 900 of which 9 are, with one of 0.01."""
    images = [
        StoredImage(
            image=f"{number}.png", source="", status="labelled", label="amber", score=0.5, stratum=0, probability=each
        )
        for number, each in enumerate(probabilities, 1)
    ]
    return StoredSample(
        draw="draw",
        unreadable=0,
        learned_from=0,
        floor=0,
        strata=(stratum(100, 50), stratum(900, 9), stratum(10, 0)),
        reaching=(),
        images=tuple(images),
    )


def test_labels_of_audits_weigh_their_inverse_probability_over_the_mean_of_all_that_can_be_drawn() -> None:
    events = [event(1, reason="audit", probability=0.5), event(2, reason="audit", probability=0.01), event(3)]
    found = labels_for_evidence(
        current_labels(events), digests(*events), archive="archive", samples={"draw": sample(0.5, 0.01)}
    )
    mean = (50 + 9) / 1010  # What is drawn of all: the mean of the weights 1 / p is one over it.
    assert [each.weight for each in found.labels] == pytest.approx([mean / 0.5, mean / 0.01])
    assert found.bound == pytest.approx(mean / 0.01)  # Also if no such image was answered.
    assert found.without({"content 2.png"}).bound == found.bound
    assert contents(found.without({"content 2.png"})) == ["content 1.png"]
    one, other = version({"content 1.png": "amber"}, classes=""), version({"content 1.png": "blue"}, classes="")
    one, other = (replace(each, classes=frozenset({"amber", "blue"})) for each in (one, other))
    compared = compare(found.labels, [one], other, bound=found.bound).comparison
    assert compared.weights == pytest.approx([mean / 0.5])
    assert compared.bound == found.bound
    assert compared.log_evidence() > 0.0 > compared.log_harm()


def test_without_a_stored_sample_no_label_is_weighted() -> None:
    events = [event(1, reason="audit", probability=0.5)]
    found = labels_for_evidence(current_labels(events), digests(*events), archive="archive", samples={})
    assert (found.labels, found.bound) == ((), 1.0)


def test_corrections_are_known_by_content() -> None:
    events = [event(1, reason="correction"), event(2)]
    assert corrections(events, digests(*events)) == {"content 1.png"}


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
    assert found.comparison.weights is None
    assert compare([], [newer], older, bound=3.0).comparison.log_evidence() == pytest.approx(0.0)


def test_of_a_chain_each_label_is_compared_with_the_version_that_it_came_to() -> None:
    labels = [FreshLabel(content, "a") for content in "123"]
    shadow = version({"1": "a", "2": "a", "3": "a"})
    first = version({"1": "a", "2": "b", "3": "b"}, learned="1")  # Image 1 is known to all that came later.
    second = version({"1": "b", "2": "a", "3": "a"}, learned="12")
    found = compare(labels, [first, second], shadow)
    assert found.comparison.gains.tolist() == [-1, 0]  # Image 2 by the first, 3 by the second.


def test_a_class_that_fell_is_found_among_others_that_gained() -> None:
    labels = [FreshLabel(str(number), "ab"[number % 2]) for number in range(60)]
    older = version({each.content: "a" for each in labels})
    newer = version({each.content: "b" for each in labels})
    found = compare(labels, [newer], older)
    assert found.fallen == ("a",)
    assert (found.guards()["a"].worse, found.guards()["b"].better) == (30, 30)
    few = compare(labels[:4], [newer], older)
    assert (few.fallen, few.guards()["a"].state) == ((), "cannot tell")
    assert compare(labels, [newer], older, bound=2.0).guards() == {}
