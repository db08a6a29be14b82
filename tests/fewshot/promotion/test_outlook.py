"""Labels that a decision would take, guards of classes, labels that contradict production."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from fewshot.promotion import guard_class, labels_needed, log_evidence_of_counts, log_needed
from tests.fewshot.promotion.projects import simulate, superior


@pytest.mark.parametrize(("gain", "labels"), [(0.02, 100), (0.04, 20)])
def test_the_expected_number_of_labels_is_about_the_median_of_what_happens(gain: float, labels: int) -> None:
    expected = labels_needed(gain, disagreement=0.1, log_needed=log_needed(1))
    assert expected is not None
    happened = simulate(superior, gain=gain, labels=labels, projects=200, nights=200).promotion_night * labels
    assert 0.7 < happened / expected < 1.3


def test_smaller_gains_take_more_labels_and_none_are_never_shown() -> None:
    numbers = [labels_needed(gain, disagreement=0.1, log_needed=log_needed(1)) for gain in (0.01, 0.02, 0.04)]
    assert None not in numbers
    assert numbers == sorted(numbers, key=lambda number: -(number or 0))
    assert labels_needed(0.0, disagreement=0.1, log_needed=log_needed(1)) is None
    assert labels_needed(0.0, disagreement=0.1, log_needed=log_needed(1), margin=0.02) is not None
    assert labels_needed(0.5, disagreement=0.0, log_needed=log_needed(1)) is not None


@pytest.mark.parametrize("needed", [0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
def test_the_number_is_the_first_that_is_enough(needed: float) -> None:
    found = labels_needed(0.04, disagreement=0.1, log_needed=needed)
    assert found is not None
    below, enough = (log_evidence_of_counts(n * 0.07, n * 0.03, n) for n in (found - 1, found))
    assert below < needed <= enough


@pytest.mark.parametrize(("gain", "margin"), [(0.5, 0.0), (-0.02, 0.05)])
def test_classifiers_disagree_on_as_many_images_as_their_accuracies_differ_by(gain: float, margin: float) -> None:
    given, needed = 0.01, log_needed(1)
    found = labels_needed(gain, disagreement=given, log_needed=needed, margin=margin)
    assert found == labels_needed(gain, disagreement=abs(gain), log_needed=needed, margin=margin)


def test_a_class_fell_held_or_cannot_be_decided() -> None:
    assert guard_class(images=200, better=2, worse=40, classes=10).state == "fell"
    assert guard_class(images=2000, better=30, worse=30, classes=10).state == "held"
    few = guard_class(images=12, better=0, worse=1, classes=10)
    assert few.state == "cannot tell"
    assert few.labels is not None
    assert few.labels > 12
    assert guard_class(images=few.labels, better=0, worse=0, classes=10).state == "held"


def test_a_class_that_fell_needs_no_more_labels() -> None:
    assert guard_class(images=200, better=2, worse=40, classes=10).labels == 200


def test_a_smaller_alpha_makes_guards_stricter() -> None:
    assert guard_class(images=60, better=0, worse=8, classes=1).state == "fell"
    assert guard_class(images=60, better=0, worse=8, classes=1, alpha=1e-4).state == "cannot tell"


def test_the_more_versions_disagree_the_more_labels_a_guard_takes() -> None:
    alike, apart = (guard_class(images=300, better=both, worse=both, classes=3) for both in (0, 60))
    assert (alike.state, apart.state) == ("held", "cannot tell")


def test_guards_tell_about_the_fewest_labels_that_are_enough() -> None:
    told = guard_class(images=10, better=0, worse=0, classes=3).labels
    assert told is not None
    assert guard_class(images=told, better=0, worse=0, classes=3).state == "held"
    assert guard_class(images=int(told / 1.5), better=0, worse=0, classes=3).state == "cannot tell"
    small = guard_class(images=10, better=0, worse=0, classes=3, fall=0.01).labels
    assert small is not None
    assert small > 1000


def test_a_class_is_said_to_hold_only_where_a_fall_is_seen_in_four_of_five() -> None:
    enough = next(n for n in range(20, 400) if guard_class(images=n, better=0, worse=0, classes=3).state == "held")
    worse = np.arange(enough + 1)
    fell = [guard_class(images=enough, better=0, worse=int(n), classes=3).state == "fell" for n in worse]
    assert 0.78 <= binom.pmf(worse, enough, 0.1) @ np.array(fell) <= 0.85


def test_more_classes_make_guards_stricter() -> None:
    one, many = (guard_class(images=60, better=0, worse=8, classes=classes).state for classes in (1, 100))
    assert (one, many) == ("fell", "cannot tell")


def test_guards_of_equal_classes_seldom_raise_an_alarm() -> None:
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(100):
        better, worse, _ = rng.multinomial(80, [0.1, 0.1, 0.8], size=5).T
        alarms += any(
            guard_class(images=80, better=int(b), worse=int(w), classes=5).state == "fell"
            for b, w in zip(better, worse, strict=True)
        )
    assert alarms / 100 <= 0.05


def test_what_guards_promise_to_see_is_seen() -> None:
    rng = np.random.default_rng(1)
    told = guard_class(images=20, better=1, worse=1, classes=3, fall=0.2).labels
    assert told is not None
    better, worse, _ = rng.multinomial(told, [0.0, 0.2, 0.8], size=200).T
    seen = [
        guard_class(images=told, better=int(b), worse=int(w), classes=3, fall=0.2).state == "fell"
        for b, w in zip(better, worse, strict=True)
    ]
    assert np.mean(seen) >= 0.75
