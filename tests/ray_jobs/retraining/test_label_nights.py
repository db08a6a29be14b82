"""Labels night by night: which night a label belongs to, and which nights are refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import nan

import pytest

from ray_jobs.registry.learned_labels import LearnedLabels
from ray_jobs.retraining.fresh_labels import ComparedVersion, ScoredLabel
from ray_jobs.retraining.label_nights import (
    ENOUGH,
    EXAMPLES,
    Night,
    NightKey,
    check_nights,
    earlier_labels,
    mostly_seen_as,
    new_labels_by_night,
    without_accepted,
)


def learned(labels: dict[str, str], classes: Sequence[str] = "ab") -> LearnedLabels:
    return LearnedLabels(tuple(classes), {content: (label,) for content, label in labels.items()})


def version(
    predicted: dict[str, str], *, learned: frozenset[str] = frozenset(), classes: str = "ab", score: float = 0.95
) -> ComparedVersion:
    scored = {content: ScoredLabel(label, score) for content, label in predicted.items()}
    return ComparedVersion(frozenset(classes), learned, scored)


def many(first: int, count: int, label: str) -> dict[str, str]:
    return {f"{number:03}": label for number in range(first, first + count)}


def night(number: int) -> NightKey:
    return NightKey("2026-11-30", number)


def test_new_labels_are_told_by_day_and_by_the_turns_between_them() -> None:
    production, now = learned({"1": "a", "2": "a"}), learned({"1": "a", "2": "b", "3": "b", "4": "b", "5": "a"})
    times = {"1": "2026-11-29T01", "2": "2026-11-30T03", "3": "2026-11-28T09", "4": "2026-11-30T01"}
    assert new_labels_by_night(now, production, times) == {
        ("2026-11-28", 0): {"3": "b"},
        ("2026-11-30", 0): {"2": "b", "4": "b"},
        ("examples", 0): {"5": "a"},
    }
    turns = ["2026-11-29T02", "2026-11-30T02"]
    assert list(new_labels_by_night(now, production, times, turns)) == [
        ("2026-11-28", 0),
        ("2026-11-30", 1),
        ("2026-11-30", 2),
        ("examples", 0),
    ]
    assert new_labels_by_night(production, production, times) == {}


def test_renamed_classes_and_images_of_two_classes_are_not_new() -> None:
    production = learned({"1": "a", "2": "a", "3": "b"})
    now = LearnedLabels(("c", "b"), {"1": ("c",), "2": ("c",), "3": ("c",), "4": ("b",), "5": ("b", "c")})
    assert new_labels_by_night(now, production, {}) == {(EXAMPLES, 0): {"3": "c", "4": "b"}}  # Class a is c now.


def refused(labels: dict[str, str], *versions: ComparedVersion, corrected: frozenset[str] = frozenset()) -> list[str]:
    return [each.day for each in refused_nights({night(1): labels}, [(each, None) for each in versions], corrected)]


def refused_nights(
    nights: Mapping[NightKey, Mapping[str, str]],
    versions: list[tuple[ComparedVersion, ComparedVersion | None]],
    corrected: frozenset[str] = frozenset(),
) -> list[Night]:
    return [each for each in check_nights(nights, versions, corrected) if each.is_refused]


def test_a_bad_night_is_refused_beside_many_good_ones() -> None:
    bad, good = many(0, 20, "b"), many(100, 200, "a")
    production = version(dict.fromkeys([*bad, *good], "a"))
    (found,) = refused_nights({night(1): good, night(2): bad, night(3): good}, [(production, None)])
    assert (found.day, found.labels, found.found.classes) == ("2026-11-30", bad, ("b",))
    assert (found.found.agreeing, found.found.labels) == (0, 20)
    assert refused(good | many(0, 4, "b"), production) == []


def test_labels_that_one_of_the_versions_agrees_with_are_not_refused() -> None:
    labels = many(0, 20, "b")
    wrong, right = version(dict.fromkeys(labels, "a")), version(dict.fromkeys(labels, "b"))
    assert refused(labels, wrong, wrong) == ["2026-11-30"]
    assert refused(labels, wrong, right) == []  # It is production that is bad, and not the labels.


def test_a_version_that_cannot_see_the_labels_or_agrees_with_few_of_them_supports_none() -> None:
    labels = many(0, 20, "b") | many(20, 10, "a")
    production = version(dict.fromkeys(labels, "a"))
    knows_less = version(dict.fromkeys(labels, "a"), classes="a")
    assert refused(labels, production, knows_less) == ["2026-11-30"]  # It is right on all that it can see.
    weak = version({content: "b" if number < 8 else "c" for number, content in enumerate(labels)}, classes="abc")
    assert refused(labels, production, weak) == ["2026-11-30"]
    half = dict.fromkeys([*labels][:10], "b")
    assert refused(labels, production, version(half)) == ["2026-11-30"]  # The other half contradicts production, too.


def test_labels_of_unknown_classes_corrections_and_images_without_a_score_say_nothing() -> None:
    bad = many(0, 20, "b")
    assert refused(bad, version(dict.fromkeys(bad, "a"), classes="a")) == []
    assert refused(bad, version(dict.fromkeys(bad, "a")), corrected=frozenset(bad)) == []
    assert refused(bad, version(dict.fromkeys(bad, "a"), score=nan)) == []
    assert refused(bad, version({})) == []


@pytest.mark.parametrize(("predicted", "count"), [("a", 1), ("b", 0)])
def test_relabelled_images_are_looked_at_by_the_twin_that_did_not_learn_from_them(predicted: str, count: int) -> None:
    labels = many(0, 20, "b")  # Production learned "a" for all of them, and would repeat it.
    production = version(dict.fromkeys(labels, "a"), learned=frozenset(labels))
    twin = version(dict.fromkeys(labels, predicted), learned=frozenset(many(0, 5, "")))
    assert len(refused_nights({night(1): labels}, [(production, twin)])) == count
    assert refused_nights({night(1): labels}, [(production, None)]) == []


def test_accepted_labels_are_left_out_until_they_change() -> None:
    labels = {night(1): {"1": "a", "2": "b"}, night(2): {"3": "b"}}
    accepted = [learned({"1": "a", "2": "a"}), learned({"3": "b"})]
    now = learned({content: label for each in labels.values() for content, label in each.items()})
    assert without_accepted(labels, accepted, now) == {night(1): {"2": "b"}}
    assert without_accepted(labels, [], now) == labels


def test_accepted_labels_stay_accepted_when_their_class_is_renamed() -> None:
    now = learned({"1": "apple", "2": "b"}, ("apple", "b"))
    labels = {night(1): {"1": "apple"}}
    assert without_accepted(labels, [learned({"1": "a", "2": "b"})], now) == {}


def test_nights_that_pass_tell_how_many_labels_agree() -> None:
    labels = many(0, 20, "a")
    production = version(labels | many(18, 2, "b"))
    (found,) = check_nights({night(1): labels}, [(production, None)], ())
    assert not found.is_refused
    assert (found.found.labels, found.found.agreeing, round(found.found.expected)) == (20, 18, 19)


def test_earlier_labels_are_ranked_by_the_newest_version_that_had_not_learned_from_them() -> None:
    now = learned({"1": "a", "2": "b", "3": "a", "4": "b", "5": "a"})
    second = version({"2": "a", "4": "b", "5": "a"}, learned=frozenset("13"), score=0.8)
    first = version({"1": "a", "2": "b", "3": "a", "4": "b"}, learned=frozenset("3"), score=0.6)
    found = earlier_labels(
        learned({"1": "a", "2": "b", "3": "a", "4": "a"}), now, {"1", "2", "3", "4"}, [second, first]
    )
    assert found.ranks.tolist() == [1, 0]  # Of 2 by the second version, of 1 by the first; 4 was relabelled since.
    assert found.scores[:, 0].tolist() == [0.8, 0.6]
    assert earlier_labels(now, now, {"2"}, [second]).ranks.tolist() == [1]  # Others are examples, or corrections.
    assert earlier_labels(now, now, (), [second]).ranks.tolist() == []


def test_wrong_relabels_do_not_make_their_night_look_better() -> None:
    relabelled, good = many(0, 30, "a"), many(30, 30, "a")
    production, wrong = learned(relabelled | good), dict.fromkeys(relabelled, "b")
    before = version(relabelled | good, score=0.9)
    assert earlier_labels(production, learned(wrong | good), [*wrong, *good], [before]).ranks.tolist() == [0] * 30


def test_no_version_is_asked_where_there_is_no_earlier_label() -> None:
    def versions() -> Iterator[ComparedVersion]:
        raise AssertionError
        yield

    assert len(earlier_labels(learned({"1": "a"}), learned({"1": "b"}), ["1"], versions()).ranks) == 0


def test_labels_that_the_version_thinks_of_are_ranked_by_its_scores() -> None:
    predicted = {"1": ScoredLabel("a", 0.6, (("b", 0.3), ("c", 0.05))), "2": ScoredLabel("a", 0.9, (("b", 0.1),))}
    asked = ComparedVersion(frozenset("abcd"), frozenset(), predicted | {"3": predicted["1"]})
    now = learned({"1": "b", "2": "c", "3": "d"}, "abcd")
    found = earlier_labels(now, now, {"1", "2", "3"}, [asked])
    assert found.ranks.tolist() == [1, 3, 3]
    assert found.scores.tolist() == [[0.6, 0.3, 0.05], [0.9, 0.1, 0.0], [0.6, 0.3, 0.05]]


def test_no_older_version_is_asked_once_there_are_enough_earlier_labels() -> None:
    labels = many(0, ENOUGH, "a")

    def versions() -> Iterator[ComparedVersion]:
        yield version(labels)
        raise AssertionError

    assert len(earlier_labels(learned(labels), learned(labels | {"x": "a"}), labels, versions()).ranks) == ENOUGH


def test_labels_that_production_has_doubted_less_than_it_should_are_expected_to_agree_as_earlier_ones_did() -> None:
    labels = many(0, 80, "a") | many(80, 24, "b")
    production = version(dict.fromkeys(labels, "a"), score=0.6)  # All that are "b" are wrong, and it is too modest.
    before = earlier_labels(
        learned(many(200, 100, "a")),
        learned(many(200, 100, "a")),
        many(200, 100, "a"),
        [version(many(200, 100, "a"), score=0.6)],
    )
    for earlier, is_refused in ((None, False), (before, True)):
        (found,) = check_nights({night(1): labels}, [(production, None)], (), earlier)
        assert found.is_refused == is_refused
    (found,) = check_nights({NightKey(EXAMPLES, 0): labels}, [(production, None)], (), before)
    assert not found.is_refused  # Examples are other images than those of the archive.


def test_a_new_class_that_is_seen_as_a_known_one_is_told() -> None:
    now = learned(many(0, 8, "c") | many(8, 3, "d") | many(20, 9, "a"), "abcd")
    production = version(many(0, 7, "a") | many(7, 1, "b") | many(8, 1, "a") | many(9, 1, "b") | many(20, 9, "a"))
    assert mostly_seen_as("c", now, production) == ("a", 7, 8)
    assert mostly_seen_as("d", now, production) is None  # No class is most of those that could be read.
    assert mostly_seen_as("e", now, production) is None
