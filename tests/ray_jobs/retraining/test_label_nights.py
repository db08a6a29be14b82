"""Labels night by night: which night a label belongs to, and which nights are refused."""

from __future__ import annotations

from math import nan

import pytest

from ray_jobs.registry.learned_labels import LearnedLabels
from ray_jobs.retraining.fresh_labels import ComparedVersion, ScoredLabel
from ray_jobs.retraining.label_nights import EXAMPLES, NightKey, check_nights, new_labels_by_night, without_accepted


def learned(labels: dict[str, str], classes: str = "ab") -> LearnedLabels:
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
    return [each.day for each in check_nights({night(1): labels}, [(version, None) for version in versions], corrected)]


def test_a_bad_night_is_refused_beside_many_good_ones() -> None:
    bad, good = many(0, 20, "b"), many(100, 200, "a")
    production = version(dict.fromkeys([*bad, *good], "a"))
    (found,) = check_nights({night(1): good, night(2): bad, night(3): good}, [(production, None)], ())
    assert (found.day, found.labels, found.found.classes) == ("2026-11-30", bad, ("b",))
    assert (found.found.agreeing, found.found.labels) == (0, 20)
    assert refused(good | many(0, 4, "b"), production) == []


def test_labels_that_one_of_the_versions_agrees_with_are_not_refused() -> None:
    labels = many(0, 20, "b")
    wrong, right = version(dict.fromkeys(labels, "a")), version(dict.fromkeys(labels, "b"))
    assert refused(labels, wrong, wrong) == ["2026-11-30"]
    assert refused(labels, wrong, right) == []  # It is production that is bad, and not the labels.
    assert refused(labels) == []


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
    assert len(check_nights({night(1): labels}, [(production, twin)], ())) == count
    assert check_nights({night(1): labels}, [(production, None)], ()) == []


def test_accepted_labels_are_left_out_until_they_change() -> None:
    labels = {night(1): {"1": "a", "2": "b"}, night(2): {"3": "b"}}
    accepted = [learned({"1": "a", "2": "a"}), learned({"3": "b"})]
    assert without_accepted(labels, accepted) == {night(1): {"2": "b"}}
    assert without_accepted(labels, []) == labels
