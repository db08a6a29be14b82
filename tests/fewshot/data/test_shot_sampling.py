"""Sampling of shots: nested, independent of the order, different with another seed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.data import sample_shots
from fewshot.errors import DataError


@st.composite
def labelled_pools(draw):
    keys = draw(st.lists(st.text(max_size=6), unique=True, max_size=24))
    return keys, draw(st.lists(st.integers(0, 3), min_size=len(keys), max_size=len(keys)))


@given(pool=labelled_pools(), shots=st.integers(0, 6), seed=st.integers(0, 3))
def test_fewer_shots_are_a_subset_of_more(pool, shots, seed):
    assert set(sample_shots(*pool, shots=shots, seed=seed)) <= set(sample_shots(*pool, shots=shots + 1, seed=seed))


@given(pool=labelled_pools(), shots=st.integers(0, 6), seed=st.integers(0, 3))
def test_each_class_gives_at_most_its_own_shots(pool, shots, seed):
    labels = pool[1]
    drawn = [labels[index] for index in sample_shots(*pool, shots=shots, seed=seed)]
    assert {label: drawn.count(label) for label in labels} == {
        label: min(shots, labels.count(label)) for label in labels
    }


@given(pool=labelled_pools(), shots=st.integers(0, 6), order=st.randoms())
def test_the_order_of_the_list_does_not_matter(pool, shots, order):
    keys, labels = pool
    moved = order.sample(range(len(keys)), len(keys))
    drawn = sample_shots([keys[i] for i in moved], [labels[i] for i in moved], shots=shots, seed=0)
    assert [moved[index] for index in drawn] == sample_shots(keys, labels, shots=shots, seed=0)


@given(pool=labelled_pools(), shots=st.integers(0, 6), seed=st.integers(0, 3))
def test_a_new_image_changes_the_draw_by_at_most_one(pool, shots, seed):
    keys, labels = pool
    before = {keys[index] for index in sample_shots(keys, labels, shots=shots, seed=seed)}
    grown = [*keys, "a brand new key"]
    after = {grown[index] for index in sample_shots(grown, [*labels, 0], shots=shots, seed=seed)}
    assert len(before - after) <= 1
    assert after - before <= {"a brand new key"}


def test_another_seed_is_another_draw():
    keys = [f"{number}.jpg" for number in range(64)]
    draws = {tuple(sample_shots(keys, [0] * 64, shots=4, seed=seed)) for seed in range(8)}
    assert len(draws) == 8


def test_the_draw_never_changes_between_releases():
    keys = [f"{number}.jpg" for number in range(8)]
    assert sample_shots(keys, ["cat", "dog"] * 4, shots=2, seed=1) == [2, 6, 1, 7]


def test_a_file_name_that_is_not_unicode_can_be_drawn():
    assert sample_shots(["\udcff.jpg"], [0], shots=1, seed=0) == [0]


def test_invalid_arguments_of_the_draw_are_refused():
    with pytest.raises(DataError, match="at least 0, got -1"):
        sample_shots(["a"], [0], shots=-1, seed=0)
    with pytest.raises(DataError, match="1 keys and 2 labels"):
        sample_shots(["a"], [0, 1], shots=1, seed=0)
