import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot.key_value_cache.kernel import Cache, class_blocks, class_votes, segment_sum
from tests.problems import World, make_problem, shuffled


@given(counts=st.lists(st.integers(0, 5), min_size=1, max_size=12), limit=st.integers(0, 20))
def test_blocks_partition_keys_without_splitting_a_class(counts, limit):
    classes, keys = [], []
    for some, rows in class_blocks(counts, keys_per_block=limit):
        size = rows.stop - rows.start
        assert size == sum(counts[some])
        assert size <= limit or sum(count > 0 for count in counts[some]) == 1
        classes += range(some.start, some.stop)
        keys += range(rows.start, rows.stop)
    assert classes == list(range(len(counts)))
    assert keys == list(range(sum(counts)))


@settings(max_examples=15, deadline=None)
@given(counts=st.lists(st.integers(0, 5), min_size=2, max_size=9), memory_bytes=st.integers(1, 4000))
def test_votes_in_blocks_equal_votes_at_once(counts, memory_bytes):
    problem, features = make_problem(counts)
    cache = Cache.from_problem(problem)
    weights = torch.linspace(0.5, 2.0, len(cache.keys))
    at_once = class_votes(features, cache.keys, cache.counts, beta=3.0, weights=weights)
    blocks = class_votes(features, cache.keys, cache.counts, beta=3.0, weights=weights, memory_bytes=memory_bytes)
    torch.testing.assert_close(blocks, at_once, rtol=1e-4, atol=1e-6)


def test_votes_equal_the_plain_sum_over_keys():
    problem, features = make_problem([2, 0, 3])
    cache = Cache.from_problem(problem)
    votes = torch.zeros(len(features), 3)
    for key, label in zip(cache.keys, cache.labels.tolist(), strict=True):
        votes[:, label] += torch.exp(-2.0 * (1.0 - features @ key))
    torch.testing.assert_close(class_votes(features, cache.keys, cache.counts, beta=2.0), votes)


@pytest.mark.parametrize("counts", [[3, 3, 3], [0, 0], [1, 1, 1, 1], [2, 0, 4], [0, 3, 3]])
def test_segment_sums_equal_row_sums_for_any_counts(counts):
    values = torch.randn(sum(counts), 7, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([rows.sum(dim=0) for rows in values.split(counts)])
    torch.testing.assert_close(segment_sum(values, torch.tensor(counts)), expected)


def test_the_cache_ignores_the_order_of_the_shots():
    problem, _ = make_problem([4, 0, 3])
    one, other = Cache.from_problem(problem), Cache.from_problem(shuffled(problem))
    assert torch.equal(one.keys, other.keys)
    assert one.labels.tolist() == [0] * 4 + [2] * 3


@pytest.mark.parametrize("views", [1, 4])
def test_keys_are_unit_rows_of_the_right_class(views):
    there = World(3, image_noise=0.01)
    cache = Cache.from_problem(there.problem([2, 2, 2], views=views))
    torch.testing.assert_close(cache.keys.norm(dim=1), torch.ones(6))
    assert (cache.keys @ there.classes.T).argmax(1).tolist() == cache.labels.tolist()
