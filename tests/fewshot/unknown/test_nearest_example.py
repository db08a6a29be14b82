"""The test of images of no class."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from fewshot.errors import DataError
from fewshot.problem import Labelled
from fewshot.unknown import NearestExample


def draw(count, *, seed=0, D=8, K=3):
    """Return unit rows [count, D] around K directions."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(K, D, generator=generator)
    labels = torch.randint(K, (count,), generator=generator)
    return normalize(centres[labels] + torch.randn(count, D, generator=generator), dim=1)


def examples_of(rows):
    return NearestExample.from_images(Labelled(rows[:, None], torch.zeros(len(rows), dtype=torch.int64)))


def plain_rank(rows, image):
    """Return the rank of an image among itself and the examples, each scored against all others."""
    joined = torch.cat([rows, image[None]]).double()
    cosines = (joined @ joined.T).fill_diagonal_(-1.0)
    scores = cosines.amax(dim=1)
    return int((scores <= scores[-1] + 1e-9).sum())


@settings(max_examples=30, deadline=None)
@given(N=st.integers(0, 30), seed=st.integers(0, 99))
def test_ranks_equal_those_of_scores_among_all_images(N, seed):
    rows = draw(N + 5, seed=seed)
    expected = [plain_rank(rows[5:], image) for image in rows[:5]]
    assert examples_of(rows[5:]).ranks(rows[:5]).tolist() == expected


@pytest.mark.parametrize("N", [10, 100])
def test_known_images_are_lost_at_the_stated_rate(N):
    trials, losses = 2000, {0.05: 0, 0.1: 0, 0.2: 0}
    for seed in range(trials):
        rows = draw(N + 1, seed=seed)
        examples = examples_of(rows[1:])
        for lost in losses:
            losses[lost] += bool(examples.unknown(rows[:1], lost=lost)[0])
    for lost, count in losses.items():
        margin = 3.0 * (lost * (1.0 - lost) / trials) ** 0.5
        assert lost - 1.0 / (N + 1) - margin <= count / trials <= lost + margin


def test_images_far_from_all_examples_are_unknown():
    rows = draw(60, D=32)
    examples = examples_of(rows[:40])
    assert examples.unknown(-rows[:40].mean(dim=0, keepdim=True), lost=0.05).all()
    assert not examples.unknown(rows[:40], lost=0.05).any()


def test_a_lower_rate_loses_a_subset():
    rows = draw(200)
    examples = examples_of(rows[:50])
    found = [examples.unknown(rows[50:], lost=lost) for lost in (0.01, 0.05, 0.2, 0.5)]
    assert not found[0].any()
    assert all((fewer <= more).all() for fewer, more in pairwise(found))
    assert found[-1].any()


def test_ranks_depend_on_neither_order_nor_other_images():
    rows = draw(60)
    ranks = examples_of(rows[:30]).ranks(rows[30:])
    assert torch.equal(examples_of(rows[:30].flip(0)).ranks(rows[30:]), ranks)
    assert torch.equal(torch.cat([examples_of(rows[:30]).ranks(row[None]) for row in rows[30:]]), ranks)


def test_equal_examples_count_once_and_their_copies_are_known():
    rows = draw(20)
    examples = examples_of(rows[torch.arange(20).repeat(2)])
    assert len(examples) == 20
    assert torch.equal(examples.scores, examples_of(rows).scores)
    assert (examples.ranks(rows) == 21).all()


def test_examples_that_differ_in_a_single_number_both_count():
    rows = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 4.0], [1.0, 2.0, 3.0]])
    assert len(examples_of(rows)) == 2


def test_the_length_of_features_plays_no_part():
    rows, lengths = draw(60), torch.linspace(0.1, 30.0, 60)[:, None]
    expected = examples_of(rows[:40]).ranks(rows[40:])
    assert torch.equal(examples_of(rows[:40] * lengths[:40]).ranks(rows[40:] * lengths[40:]), expected)
    copies = (rows * lengths)[:40]
    assert (examples_of(copies).ranks(copies) == 41).all()


@pytest.mark.parametrize("N", [0, 1])
def test_few_examples_call_no_image_unknown(N):
    rows = draw(5)
    assert not examples_of(rows[:N]).unknown(-rows, lost=0.05).any()


def test_more_examples_than_a_tile_have_rows_of_their_own(monkeypatch):
    monkeypatch.setattr("fewshot.unknown.nearest_example.TILE_ROWS", 7)
    monkeypatch.setattr("fewshot.unknown.nearest_example.TILE_EXAMPLES", 17)
    rows = draw(45)
    assert examples_of(rows[5:]).ranks(rows[:5]).tolist() == [plain_rank(rows[5:], image) for image in rows[:5]]


@pytest.mark.parametrize("lost", [0.0, 1.0, float("nan")])
def test_a_rate_out_of_range_is_refused(lost):
    with pytest.raises(DataError, match="share of rejected ranks must lie between 0 and 1"):
        examples_of(draw(10)).unknown(draw(1), lost=lost)


def test_neither_lengths_of_features_nor_augmented_views_change_a_rank():
    rows, none = draw(40), torch.zeros(30, dtype=torch.int64)
    expected = examples_of(rows[10:]).ranks(rows[:10])
    longer = NearestExample.from_images(Labelled(rows[10:, None] * torch.linspace(0.1, 10.0, 30)[:, None, None], none))
    views = NearestExample.from_images(Labelled(torch.stack([rows[10:], -3.0 * rows[10:]], dim=1), none))
    assert torch.equal(longer.ranks(rows[:10]), expected)
    assert torch.equal(views.ranks(rows[:10]), expected)
