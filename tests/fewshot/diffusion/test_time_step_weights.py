"""Acceptance properties 7, 8 and 9 of TiF."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot.diffusion.time_step_weights import (
    attribute_weights,
    linear_alphas_cumprod,
    loss_time,
    nuanced_size,
    overlap,
)
from fewshot.errors import DataError

PUBLISHED = linear_alphas_cumprod()
few = settings(max_examples=20, deadline=None)


def own_alphas():
    """Stable Diffusion's schedule."""
    return torch.cumprod(1.0 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, dim=0)


def plain_size(latents, labels):
    """`nuanced_size` as it is published: the full matrix, overwritten."""
    total = 0.0
    for vectors in latents.double().flatten(2).permute(2, 0, 1):
        distances = ((vectors[:, None] - vectors[None]) ** 2).sum(-1)
        distances[labels[:, None] == labels[None]] = 100.0
        total += float(torch.quantile(distances.flatten(), 0.001))
    return total**0.5


def support(count, classes, *, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(count, 3, 2, 3, generator=generator), torch.arange(count) % classes


@pytest.mark.parametrize(
    ("size", "starts", "half", "twentieth"),
    [(5, 88, 358, 713), (10, 170, 409, 723), (20, 293, 466, 739), (30, 374, 499, 751)],
)
def test_weights_start_and_fall_at_the_published_time_steps(size, starts, half, twentieth):
    weights = attribute_weights(PUBLISHED, size)
    assert not weights[:starts].any()
    assert (weights[starts : half + 1] > 0.5).all()
    assert not (weights[half + 1 :] > 0.5).any()
    assert (weights > 0.05).nonzero().max() == twentieth


RIPPLES = 20
"""Steps past the peak in which 1 - erf may ripple: at most 17 at 6,000 sizes from 3 to 40."""


@few
@given(size=st.floats(3.0, 40.0), ladder=st.sampled_from([(1.0, False), (0.1, True)]))
def test_weights_lie_between_0_and_1_and_fall_after_their_peak(size, ladder):
    """A ladder ten times as fine needs the exact overlap: cancellation ripples among ten times as many rungs."""
    spacing, exact = ladder
    weights = attribute_weights(PUBLISHED, size, spacing=spacing, exact=exact)
    assert (weights >= 0).all()
    assert (weights <= 1).all()
    assert (weights[int(weights.argmax()) + RIPPLES :].diff() <= 0).all()


@pytest.mark.parametrize("size", [5.0, 10.0, 20.0, 30.0])
def test_weights_of_the_published_sizes_fall_from_15_steps_past_their_peak(size):
    weights = attribute_weights(PUBLISHED, size)
    assert (weights[int(weights.argmax()) + 15 :].diff() <= 0).all()


@pytest.mark.parametrize("size", [5.0, 10.0, 20.0, 30.0])
def test_the_exact_overlap_only_moves_the_first_weights(size):
    published, exact = attribute_weights(PUBLISHED, size), attribute_weights(PUBLISHED, size, exact=True)
    start = int(published.nonzero()[0])
    assert 0 < start - int((exact > 0.5).nonzero()[0]) < 15
    assert (published - exact)[start + 15 :].abs().max() < 0.005


def test_the_ladder_scales_with_the_latents():
    """Twice the size on a ladder twice as wide is the same weight where the signal is half as strong."""
    signal = PUBLISHED / (1 - PUBLISHED)
    quarter = signal / 4 / (1 + signal / 4)
    assert attribute_weights(quarter, 10.0, spacing=2.0).numpy() == pytest.approx(
        attribute_weights(PUBLISHED, 5.0).numpy(), rel=1e-4, abs=1e-4
    )
    assert not torch.allclose(attribute_weights(PUBLISHED, 5.0, spacing=0.25), attribute_weights(PUBLISHED, 5.0))


@few
@given(small=st.floats(0.1, 40.0), factor=st.floats(1.01, 3.0), own=st.booleans(), exact=st.booleans())
def test_overlap_rises_with_time_and_falls_with_size(small, factor, own, exact):
    sizes = torch.tensor([small, small * factor], dtype=torch.float64)
    near, far = overlap(own_alphas() if own else PUBLISHED, sizes, exact=exact)
    assert (near >= far).all()
    assert near.sum() > far.sum()
    assert (torch.stack([near, far]).diff() >= 0).all()
    assert (near <= 1).all()
    assert (far >= 0).all()


@pytest.mark.parametrize("size", [1.0, 5.0])
def test_half_the_overlap_is_the_smallest_probability_of_confusion(size):
    """Monte Carlo over noise in 16 dimensions; 200,000 draws, tolerance of four standard errors."""
    draws, generator = 200_000, torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(16, generator=generator), dim=0)
    for t in (100, 300, 500):
        kept, noise = PUBLISHED[t].sqrt(), (1 - PUBLISHED[t]).sqrt()
        first, second = torch.zeros(16), kept * size * direction
        observed = first + noise * torch.randn(draws, 16, generator=generator)
        wrong = ((observed - second).square().sum(1) < (observed - first).square().sum(1)).double().mean()
        expected = float(overlap(PUBLISHED, torch.tensor([size]))[0, t]) / 2
        assert float(wrong) == pytest.approx(expected, abs=4 * (expected * (1 - expected) / draws) ** 0.5 + 1e-6)


@few
@given(size=st.floats(0.1, 60.0), degree=st.floats(0.01, 0.45))
def test_an_attribute_is_lost_from_its_loss_time_on(size, degree):
    lost = overlap(PUBLISHED, torch.tensor([size]), exact=True)[0] / 2 >= degree
    time = loss_time(PUBLISHED, size, degree=degree)
    assert lost[time:].all()
    assert not lost[:time].any()
    assert loss_time(PUBLISHED, 2 * size, degree=degree) >= time


def test_a_larger_attribute_is_lost_later_or_never():
    times = [loss_time(own_alphas(), size, degree=0.05) for size in (1.0, 10.0, 40.0, 1000.0)]
    assert times == sorted(times)
    assert times[0] < times[1] < times[2]
    assert times[3] == 1000


@few
@given(
    count=st.integers(4, 70), classes=st.integers(2, 4), scale=st.sampled_from([0.1, 1.0, 8.0]), seed=st.integers(0, 3)
)
def test_the_size_equals_that_of_the_full_matrix(count, classes, scale, seed):
    latents, labels = support(count, classes, scale=scale, seed=seed)
    assert nuanced_size(latents, labels) == pytest.approx(plain_size(latents, labels), rel=1e-9)


def test_the_size_equals_that_of_the_full_matrix_for_2000_classes():
    """2,000 classes: the quantile lies beyond the overwritten diagonal where all distances exceed 100."""
    latents, labels = 50.0 * torch.randn(2000, 1, 1, 1, generator=torch.Generator().manual_seed(0)), torch.arange(2000)
    far = latents + 20.0 * torch.arange(2000)[:, None, None, None]
    for images in (latents, far):
        assert nuanced_size(images, labels) == pytest.approx(plain_size(images, labels), rel=1e-9)


def test_the_size_ignores_order_and_labels_and_follows_the_scale():
    latents, labels = support(60, 5)
    size, order = nuanced_size(latents, labels), torch.randperm(60, generator=torch.Generator().manual_seed(1))
    assert nuanced_size(latents[order], labels[order]) == pytest.approx(size, rel=1e-12)
    assert nuanced_size(latents, 7 - labels) == pytest.approx(size, rel=1e-12)
    assert nuanced_size(3.0 * latents, labels) == pytest.approx(3.0 * size, rel=1e-6)
    assert size > 0


def test_the_size_of_duplicates_across_classes_is_0():
    latents, labels = support(40, 2)
    assert nuanced_size(latents[labels == 0].repeat(2, 1, 1, 1), torch.arange(2).repeat_interleave(20)) == 0.0


def test_one_class_alone_is_refused():
    with pytest.raises(DataError, match="two classes or more"):
        nuanced_size(*support(4, 1))
