"""The greedy choice of images that cover an archive: equal to its plain twin, and what it never does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.suggestion import Herd, Sample, herd, median_radius
from fewshot.suggestion import herding as module
from fewshot.suggestion.herding import NEAR_DUPLICATE, candidates, kernel, largest_cosines


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def drawn(seed, count, dim=6):
    """Rows around a few centres, so that some are near-duplicates."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(4, dim))
    return unit(
        centres[rng.integers(4, size=count)] + rng.choice([0.05, 1.0], size=(count, 1)) * rng.normal(size=(count, dim))
    )


def plain_gains(features, doubt, known, radius):
    """The gain of every image, as the formula says; -inf for near-duplicates of known ones."""
    x = features.astype(np.float64)

    def near(a, b):
        return np.exp(-((a[:, None] - b[None]) ** 2).sum(axis=2) / (2 * radius**2))

    covered = near(x, known).max(axis=1) if len(known) else np.zeros(len(x))
    gains = (doubt[:, None] * np.maximum(near(x, x) - covered[:, None], 0.0)).sum(axis=0)
    if len(known):
        gains[(x @ known.T).max(axis=1) > NEAR_DUPLICATE] = -np.inf
    return gains


@given(
    seed=st.integers(0, 1000),
    size=st.integers(1, 40),
    labelled=st.integers(0, 5),
    count=st.integers(0, 12),
    has_doubt=st.booleans(),
)
def test_choices_are_the_plain_ones(seed, size, labelled, count, has_doubt):
    features, known = drawn(seed, size), drawn(seed + 1, labelled)
    doubt = np.random.default_rng(seed).random(size) if has_doubt else np.ones(size)
    state = Herd.beside(Sample(features, doubt.astype(np.float32)), known, radius=0.7)
    chosen = known.astype(np.float64)
    rows = [row for row, _ in herd(state, count)]
    for row in rows:
        gains = plain_gains(features, doubt, chosen, 0.7)
        assert gains[row] >= gains.max() - 1e-5  # Symmetry makes equal gains, which rounding decides.
        chosen = np.concatenate([chosen, features[row, None]])
    assert len(rows) == count or plain_gains(features, doubt, chosen, 0.7).max() == -np.inf


def test_choices_cost_a_few_times_as_much_as_the_first():
    features, count = drawn(0, 3000, dim=32), 40
    state = Herd.beside(Sample(features, np.ones(3000, np.float32)), features[:0], radius=0.8)
    assert len(list(herd(state, count))) == count
    assert state.computed < 6 * 3000**2


@given(seed=st.integers(0, 1000), size=st.integers(1, 40), labelled=st.integers(0, 5))
def test_gains_fall_by_what_a_choice_takes(seed, size, labelled):
    features, doubt = drawn(seed, size), np.random.default_rng(seed).random(size).astype(np.float32)
    state = Herd.beside(Sample(features, doubt), drawn(seed + 1, labelled), radius=0.7)
    rows = np.arange(size)
    before = state.gains(rows)
    raised = state.choose(seed % size)
    assert before - state.losses(rows, raised) == pytest.approx(state.gains(rows), abs=1e-5)
    assert raised.gain == pytest.approx(before[seed % size], abs=1e-5)
    assert raised.area >= raised.gain


@given(seed=st.integers(0, 1000), size=st.integers(1, 60))
def test_no_two_near_duplicates_are_chosen(seed, size):
    features, known = drawn(seed, size), drawn(seed + 1, 3)
    state = Herd.beside(Sample(features, np.ones(size, np.float32)), known, radius=0.5)
    rows = np.concatenate([known, features[[row for row, _ in herd(state, size)]]])
    cosines = np.tril(rows @ rows.T, -1)[3:]
    assert cosines.max(initial=-1.0) <= NEAR_DUPLICATE


def test_doubt_decides_between_regions_of_one_size():
    features = unit(np.array([[1, 0, 0], [0.95, 0.31, 0], [0, 0, 1], [0, 0.31, 0.95]]))
    doubt = np.array([0.1, 0.1, 0.6, 0.6], np.float32)
    state = Herd.beside(Sample(features, doubt), features[:0], radius=0.5)
    (first, is_doubtful), (second, is_certain) = list(herd(state, 2))
    assert (first in (2, 3), is_doubtful) == (True, True)
    assert (second in (0, 1), is_certain) == (True, False)


@given(seed=st.integers(0, 1000))
def test_equal_doubts_are_no_reason(seed):
    features = drawn(seed, 50)
    state = Herd.beside(Sample(features, np.full(50, 0.4, np.float32)), features[:0], radius=0.5)
    assert not any(is_doubtful for _, is_doubtful in herd(state, 10))


@given(seed=st.integers(0, 100), size=st.integers(2, 50), count=st.integers(1, 60))
def test_the_radius_is_the_median_distance_to_the_nearest(seed, size, count):
    features = drawn(seed, size)
    others = min(count, size - 1)
    distances = np.linalg.norm(features[:, None] - features[None, :others], axis=2)
    distances[np.arange(others), np.arange(others)] = np.inf
    nearest = np.sort(distances.min(axis=1))
    found = median_radius(features, count)
    assert nearest[(size - 1) // 2] - 2e-3 <= found <= nearest[size // 2] + 2e-3


def test_more_labels_make_a_smaller_radius():
    features = drawn(0, 2000, dim=16)
    radii = [median_radius(features, count) for count in (1, 10, 100, 1000)]
    assert radii == sorted(radii, reverse=True)


@pytest.mark.parametrize("size", [1, 5])
def test_equal_images_have_a_radius(size):
    features = unit(np.ones((size, 3)))
    assert median_radius(features, 3) > 0
    state = Herd.beside(Sample(features, np.ones(size, np.float32)), features[:0], radius=median_radius(features, 3))
    assert [row for row, _ in herd(state, 3)] == [0]


def test_equal_images_have_a_radius_without_rounding():
    assert median_radius(np.eye(3, dtype=np.float32)[[0, 0, 0]], 2) > 0


def test_nothing_is_chosen_of_nothing():
    empty = np.zeros((0, 4), np.float32)
    state = Herd.beside(Sample(empty, np.zeros(0, np.float32)), empty, radius=1.0)
    assert list(herd(state, 3)) == []


def test_the_kernel_of_no_image_is_0():
    features = drawn(0, 5)
    assert kernel(largest_cosines(features, features[:0]), 0.5).tolist() == [0.0] * 5


def test_tiles_change_no_choice(monkeypatch):
    features, doubt = drawn(5, 60), np.random.default_rng(5).random(60).astype(np.float32)

    def chosen():
        state = Herd.beside(Sample(features, doubt), drawn(6, 9), radius=0.7)
        return list(herd(state, 12)), median_radius(features, 20)

    whole, radius = chosen()
    monkeypatch.setattr(module, "_TILE", 7)
    monkeypatch.setattr(module, "_BATCH", 3)
    assert chosen() == (whole, pytest.approx(radius))


@pytest.mark.parametrize(("cosine", "count"), [(0.96, 2), (0.98, 1)])
def test_near_duplicates_begin_at_a_cosine_of_97_percent(cosine, count):
    features = np.array([[1.0, 0.0], [cosine, np.sqrt(1 - cosine**2)]], np.float32)
    sample = Sample(features, np.ones(2, np.float32))
    assert len(list(herd(Herd.beside(sample, features[:0], radius=0.5), 2))) == count
    assert len(list(herd(Herd.beside(sample, features[:1], radius=0.5), 2))) == count - 1


def test_the_first_of_equally_useful_images_is_chosen():
    features = np.eye(4, dtype=np.float32)
    state = Herd.beside(Sample(features, np.ones(4, np.float32)), features[:0], radius=0.5)
    assert [row for row, _ in herd(state, 4)] == [0, 1, 2, 3]


def test_an_image_is_chosen_once_where_near_duplicates_are_allowed():
    features = drawn(2, 20)
    sample = Sample(features, np.ones(20, np.float32))
    rows = [row for row, _ in herd(Herd.beside(sample, features[:0], radius=0.5, near_duplicate=2.0), 30)]
    assert sorted(rows) == list(range(20))


def test_rounding_makes_no_image_nearer_than_itself():
    assert kernel(np.array([np.nextafter(np.float32(1), np.float32(2)), 1.0], np.float32), 1e-3).tolist() == [1.0, 1.0]


def test_a_radius_is_measured_on_the_last_images():
    features = np.eye(3000, dtype=np.float32)
    features[:1100] = features[0]
    assert median_radius(features, 600) == pytest.approx(np.sqrt(2.0))


@pytest.mark.parametrize(
    ("size", "count", "expected"), [(10, 60, 10), (31_622, 1, 31_622), (200_000, 60, 5000), (200_000, 4000, 8000)]
)
def test_as_many_can_be_chosen_as_their_cosines_allow(size, count, expected):
    assert candidates(size, count) == expected


def test_of_two_images_that_are_like_each_other_the_first_is_chosen():
    rows = np.eye(40)
    features = unit(np.stack([rows[:20], rows[:20] + 0.5 * rows[20:]], axis=1).reshape(40, 40))
    state = Herd.beside(Sample(features, np.ones(40, np.float32)), features[:0], radius=0.9)
    assert [row % 2 for row, _ in herd(state, 20)] == [0] * 20
