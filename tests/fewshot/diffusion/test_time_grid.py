"""Grids of time-steps, the order in which they are scored, and steps at equal mass of the weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot.diffusion.time_grid import (
    published_grid,
    spread_order,
    stage_entries,
    support_grid,
    time_grid,
    without_tail,
)
from fewshot.diffusion.time_step_weights import attribute_weights, linear_alphas_cumprod
from fewshot.errors import DataError

few = settings(max_examples=40, deadline=None)


def tif_weights(size=10.0):
    return attribute_weights(linear_alphas_cumprod(), size)


def test_the_published_grid_takes_every_second_step_of_a_thousand():
    assert published_grid(500).tolist() == list(range(1, 1000, 2))
    assert published_grid(1000).tolist() == list(range(1000))


def test_an_even_grid_has_the_weights_of_its_steps():
    grid = time_grid(tif_weights(), 500, "even")
    assert torch.equal(grid.steps, published_grid(500))
    assert torch.equal(grid.weights, tif_weights()[1::2])
    assert float((grid.weights * grid.steps).sum() / grid.weights.sum()) == pytest.approx(344.336, abs=1e-3)


def test_a_grid_by_weight_counts_its_steps_the_same():
    grid = time_grid(tif_weights(), 100, "by-weight")
    assert torch.equal(grid.steps, support_grid(tif_weights(), 100))
    assert torch.equal(grid.weights, torch.ones(100, dtype=torch.float64))
    assert float(grid.steps.double().mean()) == pytest.approx(343.86)
    few_weigh = torch.zeros(1000, dtype=torch.float64).index_fill(0, torch.tensor([5, 7, 900]), 1.0)
    assert time_grid(few_weigh, 100, "by-weight").steps.tolist() == [5, 7, 900]


def test_an_even_grid_that_misses_all_weights_is_refused():
    weights = torch.zeros(1000, dtype=torch.float64).index_fill(0, torch.tensor([0]), 1.0)
    with pytest.raises(DataError, match="none of 4 time-steps at equal distance has a weight"):
        time_grid(weights, 4, "even")


@pytest.mark.parametrize(
    ("n", "first", "last"), [(20, 12, 487), (50, 5, 495), (128, 1, 382), (256, 0, 255), (32, 7, 472)]
)
def test_a_stage_covers_the_published_part_of_the_grid(n, first, last):
    entries = stage_entries(n, 500)
    assert (len(entries), int(entries[0]), int(entries[-1])) == (n, first, last)


@given(grid=st.integers(1, 1200), share=st.floats(0.0, 1.0))
def test_a_stage_has_the_given_number_of_distinct_steps(grid, share):
    n = max(1, round(share * grid))
    entries = stage_entries(n, grid)
    assert len(entries) == n == len(set(entries.tolist()))
    assert 0 <= int(entries.min()) <= int(entries.max()) < grid


@given(n=st.integers(1, 600))
def test_every_beginning_of_the_order_is_spread_evenly(n):
    order = spread_order(torch.ones(n))
    assert sorted(order.tolist()) == list(range(n))
    for beginning in (2, 4, 8, 16, 32):
        if beginning < n:
            edges = torch.cat([torch.tensor([-1]), order[:beginning].sort().values, torch.tensor([n])])
            assert int(edges.diff().max()) <= n / beginning + 2


@few
@given(n=st.integers(1, 40), seed=st.integers(0, 99))
def test_the_order_is_that_in_which_a_van_der_corput_sequence_reaches_the_entries(n, seed):
    """A sequence of at least four points an entry; the entries that it does not reach come last, the densest first."""
    density = torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.02
    mass, bits = density.cumsum(dim=0), n.bit_length() + 2
    reached = []
    for point in range(2**bits):
        place = (int(f"{point:0{bits}b}"[::-1], 2) + 0.5) / 2**bits * float(mass[-1])
        reached.append(min(n - 1, int((mass < place).sum())))
    left = sorted(set(range(n)) - set(reached), key=lambda entry: -float(density[entry]))
    assert spread_order(density).tolist() == [*dict.fromkeys(reached), *left]


@given(n=st.integers(20, 300), seed=st.integers(0, 99))
def test_the_order_is_denser_where_the_density_is_higher(n, seed):
    density = torch.rand(n, generator=torch.Generator().manual_seed(seed)) + torch.linspace(3.0, 0.01, n)
    order = spread_order(density)
    assert sorted(order.tolist()) == list(range(n))
    half = torch.searchsorted(density.cumsum(dim=0), density.sum() / 2)
    for beginning in (4, 8, 16):
        assert abs(int((order[:beginning] <= half).sum()) - beginning / 2) <= 1


@few
@given(size=st.floats(2.0, 40.0), n=st.integers(1, 120))
def test_a_grid_on_the_support_has_distinct_weighted_steps(size, n):
    weights = tif_weights(size)
    steps = support_grid(weights, n)
    assert (steps.diff() > 0).all()
    assert (weights[steps] > 0).all()
    assert len(steps) == n


@given(st.lists(st.sampled_from([0.0, 1e-6, 1.0, 1000.0]), min_size=1, max_size=40).filter(any))
def test_a_grid_as_long_as_the_support_is_the_support(weights):
    table = torch.tensor(weights)
    for n in range(1, int((table > 0).sum()) + 1):
        assert len(support_grid(table, n).unique()) == n
    assert torch.equal(support_grid(table, n), table.nonzero().squeeze(1))


def test_a_plain_mean_on_the_support_equals_the_weighted_mean():
    weights, errors = tif_weights(), torch.linspace(1, 0, 1000, dtype=torch.float64) ** 2
    weighted = float((weights * errors).sum() / weights.sum())
    for n in (20, 50, 200):
        assert float(errors[support_grid(weights, n)].mean()) == pytest.approx(weighted, rel=2e-3)
    assert float(errors[published_grid(200)].mean()) != pytest.approx(weighted, rel=0.1)


def test_flat_weights_give_the_published_grid():
    assert support_grid(torch.ones(1000), 500).tolist() in (list(range(0, 1000, 2)), list(range(1, 1000, 2)))


@few
@given(dropped=st.floats(0.0, 0.5))
def test_the_tail_holds_no_more_than_stated(dropped):
    weights = tif_weights()
    kept = without_tail(weights, dropped)
    last = int(kept.nonzero().max())
    assert torch.equal(kept[: last + 1], weights[: last + 1])
    assert float(weights[last + 1 :].sum()) <= dropped * float(weights.sum()) * (1 + 1e-9)
    assert float(weights[last:].sum()) > dropped * float(weights.sum()) * (1 - 1e-9)
    assert int(support_grid(weights, 50, dropped=dropped).max()) <= last


def test_steps_that_hold_exactly_the_dropped_share_are_dropped():
    assert without_tail(torch.ones(4), 0.5).tolist() == [1.0, 1.0, 0.0, 0.0]
    assert without_tail(torch.ones(4), 0.49).tolist() == [1.0, 1.0, 1.0, 0.0]


def test_a_grid_longer_than_the_support_is_refused():
    with pytest.raises(DataError, match="at most 3"):
        support_grid(torch.tensor([0.0, 1.0, 1.0, 0.5]), 4)
