"""Labels night by night: which night a label belongs to, and which nights are refused."""

from __future__ import annotations

from math import nan

import pytest

from ray_jobs.registry.learned_labels import LearnedLabels
from ray_jobs.retraining.fresh_labels import ComparedVersion, ScoredLabel
from ray_jobs.retraining.label_nights import check_nights, new_labels_by_night


def learned(labels: dict[str, str], classes: str = "ab") -> LearnedLabels:
    return LearnedLabels(tuple(classes), {content: (label,) for content, label in labels.items()})


def version(
    predicted: dict[str, str], *, learned: frozenset[str] = frozenset(), classes: str = "ab", score: float = 0.95
) -> ComparedVersion:
    scored = {content: ScoredLabel(label, score) for content, label in predicted.items()}
    return ComparedVersion(frozenset(classes), learned, scored)


def many(first: int, count: int, label: str) -> dict[str, str]:
    return {f"{number:03}": label for number in range(first, first + count)}


def test_a_label_belongs_to_the_first_night_that_has_it() -> None:
    production, first = learned({"1": "a"}), learned({"1": "a", "2": "a", "3": "b"})
    second, now = learned({"1": "a", "2": "b", "3": "b"}), learned({"1": "a", "2": "a", "3": "b", "4": "b"})
    assert new_labels_by_night(now, production, [first, second]) == [{"2": "a", "3": "b"}, {}, {"4": "b"}]


def test_relabelled_images_are_new_and_renamed_classes_and_images_of_two_classes_are_not() -> None:
    production = learned({"1": "a", "2": "a", "3": "b"})
    now = LearnedLabels(("c", "b"), {"1": ("c",), "2": ("c",), "3": ("c",), "4": ("b",), "5": ("b", "c")})
    production_like = LearnedLabels(("a", "b"), production.of_content)
    assert new_labels_by_night(now, production_like, []) == [{"3": "c", "4": "b"}]  # Class a is c now.
    renamed = LearnedLabels(("c", "b"), {"1": ("c",), "2": ("c",), "3": ("b",)})
    assert new_labels_by_night(renamed, production_like, []) == [{}]


def test_a_bad_night_is_refused_beside_many_good_ones() -> None:
    bad, good = many(0, 20, "b"), many(100, 200, "a")
    production = version(dict.fromkeys([*bad, *good], "a"))
    (night,) = check_nights([good, bad, good], production, None, ())
    assert (night.labels, night.found.classes) == (bad, ("b",))
    assert (night.found.agreeing, night.found.labels) == (0, 20)
    assert check_nights([good | many(0, 4, "b")], production, None, ()) == []


def test_labels_of_unknown_classes_corrections_and_images_without_a_score_say_nothing() -> None:
    bad = many(0, 20, "b")
    assert check_nights([bad], version(dict.fromkeys(bad, "a"), classes="a"), None, ()) == []
    assert check_nights([bad], version(dict.fromkeys(bad, "a")), None, bad) == []
    assert check_nights([bad], version(dict.fromkeys(bad, "a"), score=nan), None, ()) == []
    assert check_nights([bad], version({}), None, ()) == []


@pytest.mark.parametrize(("predicted", "refused"), [("a", 1), ("b", 0)])
def test_relabelled_images_are_looked_at_by_the_twin_that_did_not_learn_from_them(predicted: str, refused: int) -> None:
    labels = many(0, 20, "b")  # Production learned "a" for all of them, and would repeat it.
    production = version(dict.fromkeys(labels, "a"), learned=frozenset(labels))
    twin = version(dict.fromkeys(labels, predicted), learned=frozenset(many(0, 5, "")))
    assert len(check_nights([labels], production, twin, ())) == refused
    assert check_nights([labels], production, None, ()) == []
