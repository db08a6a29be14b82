from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot.audit import Sampler
from fewshot.audit.draw import FLOOR, needs_floor
from fewshot.audit.stratification import BANDS, Cell, assign, make_strata
from fewshot.errors import DataError
from tests.fewshot.audit.replays import Archive


@pytest.mark.parametrize("parts", [2, 7, 100])
def test_the_cut_into_parts_changes_nothing(parts):
    archive = Archive.random(500)
    whole, cut = archive.draw(60), archive.draw(60, parts=parts)
    assert (whole.rules, whole.labels, whole.rows, whole.floor) == (cut.rules, cut.labels, cut.rows, cut.floor)
    assert whole.reaching == cut.reaching
    np.testing.assert_array_equal(whole.strata.score_sum, cut.strata.score_sum)


def test_the_order_of_parts_changes_nothing():
    archive = Archive.random(300)
    order = np.random.default_rng(0).permutation(300)
    sampler = Sampler(key="0", size=60)
    for part in np.array_split(order, 9):
        images = [f"{i}.jpg" for i in part]
        values = (getattr(archive, name)[part].tolist() for name in ("status", "label"))
        sampler.add(images, [""] * len(part), *values, archive.score[part], np.full(len(part), 0.25))
    assert sampler.finish().rows == archive.draw(60).rows


def test_a_larger_draw_continues_a_smaller_one():
    archive = Archive.random(2000)
    small, large = archive.draw(60), archive.draw(200, planned=60)
    assert large.rows[:60] == small.rows
    assert large.rules == small.rules


def test_another_key_draws_other_rows():
    archive = Archive.random(2000)
    assert {row.image for row in archive.draw(60).rows} != {row.image for row in archive.draw(60, key="1").rows}


def test_every_stratum_has_two_rows():
    archive = Archive.random(3000)
    archive.status[:3] = "unknown"
    draw = archive.draw(300)
    drawn = Counter(row.stratum for row in draw.rows)
    assert all(drawn[index] >= min(FLOOR, rows) for index, rows in enumerate(draw.strata.rows))
    small = np.flatnonzero(needs_floor(draw.strata.rows, planned=300)).tolist()
    assert Counter(row.stratum for row in draw.rows[: draw.floor]) == dict.fromkeys(small, FLOOR)
    assert "unknown" in {draw.rules[index].status for index in small}


def test_what_remains_of_a_small_stratum_comes_no_later_than_others():
    archive = Archive.random(200)
    archive.status[:12] = "unknown"
    draws = [archive.draw(60, key=str(key)) for key in range(200)]
    later = sum(row.status == "unknown" for draw in draws for row in draw.rows[draw.floor :])
    expected = sum((60 - draw.floor) * (12 - FLOOR) / (200 - draw.floor) for draw in draws)
    assert later == pytest.approx(expected, rel=0.15)


def test_strata_with_too_few_answers_are_joined():
    draw = Archive.random(3000).draw(300)
    joined = draw.joined(40)
    drawn = Counter(row.stratum for row in joined.rows[:40])
    assert min(drawn.values()) >= 2
    assert len(drawn) == len(joined.rules) < len(draw.rules)
    assert joined.strata.population == 3000
    assert joined.strata.score_sum.sum() == pytest.approx(draw.strata.score_sum.sum())
    assert all(joined.rules[row.stratum].status == row.status for row in joined.rows)
    assert draw.joined(300).rules == draw.rules


def test_every_row_of_a_small_archive_is_drawn_once():
    draw = Archive.random(50).draw(300)
    assert sorted(row.image for row in draw.rows) == sorted(f"{i}.jpg" for i in range(50))
    np.testing.assert_array_equal(draw.probabilities(), np.ones(50))


def test_inclusion_is_as_frequent_as_its_probability():
    archive = Archive.random(120)
    drawn, expected = np.zeros(120), np.zeros(120)
    for key in range(150):
        draw = archive.draw(40, key=str(key))
        images = [int(row.image[:-4]) for row in draw.rows]
        drawn[images] += 1.0
        share = np.bincount([row.stratum for row in draw.rows], minlength=len(draw.rules)) / draw.strata.rows
        expected += share[[_stratum(archive, draw, i) for i in range(120)]]
    assert np.abs(drawn - expected).max() < 4.5 * np.sqrt(150 * 0.25)


def _stratum(archive, draw, i):
    cell = Cell(str(archive.status[i]), True, min(int(archive.score[i] * BANDS), BANDS - 1), str(archive.label[i]))
    return assign([cell], draw.rules)[cell]


def test_rows_without_scores_are_banded_by_margin():
    sampler = Sampler(key="0", size=100)
    nan = np.full(400, np.nan)
    sampler.add([str(i) for i in range(400)], [""] * 400, ["ok"] * 400, ["a"] * 400, nan, np.linspace(0, 1, 400))
    draw = sampler.finish()
    assert len(draw.rules) == 5
    assert not any(rule.is_scored for rule in draw.rules)
    assert draw.reaching[0] == 0
    assert draw.rows[0].score is None


def test_nothing_to_draw_from_is_refused():
    with pytest.raises(DataError, match="nothing to draw from"):
        Sampler(key="0", size=10).finish()


def test_a_sample_smaller_than_the_floor_is_refused():
    with pytest.raises(DataError, match="must have 4 images at least"):
        Archive.random(100).draw(3)  # Of two statuses.


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.builds(
            Cell, st.sampled_from(["ok", "abstained"]), st.booleans(), st.integers(0, BANDS - 1), st.sampled_from("abc")
        ),
        st.integers(1, 1000),
        min_size=1,
        max_size=30,
    ),
    st.integers(1, 500),
)
def test_every_cell_has_one_stratum_and_none_is_empty(cells, planned):
    rules = make_strata(cells, planned=planned)
    found = assign(cells, rules)
    assert set(found.values()) == set(range(len(rules)))
    assert all(
        rules[index].status == cell.status and rules[index].is_scored == cell.is_scored for cell, index in found.items()
    )
