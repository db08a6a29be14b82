"""Comparisons of nights: what is found, in which window, and how seldom nothing alarms."""

from __future__ import annotations

import numpy as np
import pytest

from fewshot.drift import LEAST, STATISTICS, Finding, Floors, Sample, compare, permutations_for, windows
from tests.fewshot.drift.nights import simulate
from tests.fewshot.drift.populations import population


def drawn(change: str | None = None, counts: tuple[int, int] = (500, 300), seed: int = 1) -> list[Sample]:
    rng, draw = np.random.default_rng(seed), population(change=change)
    return [draw(rng, count, night) for night, count in enumerate(counts)]


def alarms(change: str | None) -> set[str]:
    findings, _ = compare(*drawn(change), [300], level=0.02)
    return {finding.statistic for finding in findings if finding.is_alarm}


def test_each_change_is_found_by_its_statistic() -> None:
    assert alarms(None) == set()
    assert "features" in alarms("shift")
    assert "novel" in alarms("novel")
    assert "classes" in alarms("classes")
    assert alarms("withheld") == {"withheld"}


def test_an_alarm_needs_both_an_effect_and_a_small_p_value() -> None:
    def finding(effect: float, p_value: float) -> Finding:
        return Finding("features", 300, 0.5, effect, effect, 0.6, p_value, 0.001)

    assert finding(0.6, 0.001).is_alarm
    assert not finding(0.59, 0.001).is_alarm
    assert not finding(0.9, 0.0011).is_alarm


def test_floors_decide_what_matters() -> None:
    for change, statistic, floors in (
        ("shift", "features", Floors(auc=0.99)),
        ("classes", "classes", Floors(change=0.9)),
        ("withheld", "withheld", Floors(change=0.9)),
        ("novel", "novel", Floors(change=0.9)),
    ):
        findings, _ = compare(*drawn(change), [300], level=0.02, floors=floors)
        assert not next(each for each in findings if each.statistic == statistic).is_alarm


def test_statistics_and_windows_share_the_level_of_a_night() -> None:
    findings, unlike = compare(*drawn(), [100, 300], level=0.04)
    assert [each.statistic for each in findings] == [*STATISTICS, *STATISTICS]
    assert [each.images for each in findings] == [100] * 4 + [300] * 4
    assert sum(each.level for each in findings) == pytest.approx(0.04)
    assert unlike.shape == (100,)


def test_values_and_effects_are_those_of_both_samples() -> None:
    reference, present = drawn("withheld")
    findings, _ = compare(reference, present, [200], level=0.01)
    found = {each.statistic: each for each in findings}
    withheld = found["withheld"]
    assert withheld.reference == pytest.approx(reference.withheld.mean())
    assert withheld.value == pytest.approx(present.withheld[:200].mean())
    assert withheld.effect == pytest.approx(abs(withheld.value - withheld.reference))
    novel = found["novel"]
    assert 0.05 < novel.reference < 0.06  # A little more than a twentieth, as few rows leave gaps.
    assert novel.effect == pytest.approx(novel.value - novel.reference)
    assert found["features"].effect == found["features"].value
    fewer, _ = compare(present, reference, [200], level=0.01)
    assert fewer[3].effect > 0.05  # Fewer withheld labels are a change, too.


def test_images_without_a_prediction_are_left_out_of_the_shares() -> None:
    reference, present = drawn()
    none = Sample(present.features, np.full(300, -1), present.withheld)
    findings, _ = compare(reference, none, [300], level=0.01)
    assert [each.statistic for each in findings] == ["features", "novel"]
    is_odd = np.arange(300) % 2 == 1
    half = Sample(present.features, np.where(is_odd, present.classes, -1), present.withheld & is_odd)
    found = {each.statistic: each for each in compare(reference, half, [300], level=0.01)[0]}
    assert found["classes"].effect < 0.1
    assert found["withheld"].value == pytest.approx(present.withheld[is_odd].mean())


def test_permutations_can_show_any_level_and_are_bounded() -> None:
    for level in (0.05, 0.01, 0.0003):
        assert 1 / (1 + permutations_for(level)) < level / 1.5
    assert permutations_for(1e-9) == 100_000


def test_windows_are_the_newest_whole_nights_and_everything() -> None:
    assert windows([]) == windows([3] * (LEAST - 1)) == []
    assert windows([1] * LEAST) == [LEAST]
    assert windows([2] * 300) == [300]
    assert windows([5] * 150 + [4] * 100) == [150, 250]
    assert windows([5] * 60 + [4] * 90 + [2] * 100) == [150, 250]
    assert windows([5] * 60 + [4] * 30) == [90]
    assert windows([5] * 99 + [4] * 1 + [3] * 1) == [100, 101]


@pytest.mark.parametrize(("sizes", "level"), [([], 0.1), ([LEAST - 1], 0.1), ([300], 0.0), ([300], 1.0)])
def test_what_cannot_be_compared_is_refused(sizes, level) -> None:
    with pytest.raises(ValueError, match="cannot compare"):
        compare(*drawn(), sizes, level=level)
    with pytest.raises(ValueError, match="cannot compare"):
        compare(*drawn(counts=(LEAST - 1, 300)), [300], level=0.1)


@pytest.mark.parametrize("grows", [True, False], ids=["grows", "is replaced"])
def test_200_nights_without_a_change_hardly_alarm(grows) -> None:
    nights = simulate(population(dim=8), nights=200, images=60, reference=100, grows=grows, seed=5, sample=200)
    assert len(nights) == 200
    assert sum(bool(night.alarms) for night in nights) <= 1  # One a year is the bound, half a one in 200 nights.


@pytest.mark.parametrize("grows", [True, False], ids=["grows", "is replaced"])
def test_without_floors_p_values_alone_keep_the_rate(grows) -> None:
    floors = Floors(auc=0.0, change=-1.0)
    alarmed = []
    for seed in range(12):
        nights = simulate(
            population(dim=6),
            nights=12,
            images=50,
            reference=60,
            sample=150,
            grows=grows,
            seed=seed,
            alarms_a_year=36.5,
            floors=floors,
        )
        assert sum(night.level for night in nights) == pytest.approx(12 * 0.05)
        alarmed.append(sum(bool(night.alarms) for night in nights))
    # 0.6 are expected at most in each of the twelve, which share no reference: three standard errors above that.
    assert np.mean(alarmed) <= 0.6 + 3 * np.std(alarmed) / np.sqrt(12)


@pytest.mark.parametrize("change", ["shift", "novel", "classes", "withheld"])
def test_a_change_is_found_within_three_nights(change) -> None:
    draw = population(change=change, since=8, dim=8, size=1.5)
    nights = simulate(draw, nights=14, images=220, reference=600, grows=True, seed=2, until_alarm=True)
    assert 8 <= nights[-1].number <= 10
    assert nights[-1].alarms
