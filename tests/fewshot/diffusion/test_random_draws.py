"""The samples of a training step depend on nothing but seed, class and step."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewshot.diffusion.random_draws import LatentImages, draw_samples, epoch_rows
from fewshot.errors import DataError


def images(size=3, *, key="cat", std=0.0):
    """Image i is i everywhere."""
    mean = torch.arange(size).float().view(-1, 1, 1, 1).expand(size, 2, 2, 2)
    return LatentImages(key, mean, torch.full_like(mean, std), torch.zeros(4, dtype=torch.int64))


def drawn(shown, step, *, key="cat", count=2, stratified=False, seed=0):
    return draw_samples(shown, key, step, count=count, num_steps=1000, stratified=stratified, seed=seed)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@given(size=st.integers(1, 5), count=st.integers(1, 4), steps=st.integers(1, 8))
def test_images_are_drawn_equally_often(size, count, steps):
    shown = [float(row[0, 0, 0]) for step in range(steps) for row in drawn(images(size), step, count=count).latents]
    seen = Counter(shown)
    assert max(seen.values()) - min(seen.get(float(i), 0) for i in range(size)) <= 1


def test_samples_depend_on_seed_class_images_and_step_alone():
    here = drawn(images(std=1.0), 3)
    drawn(images(std=1.0), 2)
    assert same(drawn(images(std=1.0), 3), here)
    others = [
        drawn(images(std=1.0), 4),
        drawn(images(std=1.0), 3, seed=1),
        drawn(images(std=1.0), 3, key="dog"),
        drawn(images(std=1.0, key="prior"), 3),
    ]
    assert not any(torch.equal(other.noise, here.noise) or torch.equal(other.latents, here.latents) for other in others)


def test_each_epoch_has_an_order_of_its_own():
    epochs = [tuple(epoch_rows(12, range(12 * epoch, 12 * epoch + 12), 0, "cat").tolist()) for epoch in range(8)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len(set(epochs)) == 8
    assert epoch_rows(12, range(7, 30), 0, "cat").tolist() == [row for epoch in epochs for row in epoch][7:30]


def test_latents_are_drawn_from_the_posterior():
    latents = torch.cat([drawn(images(1, std=0.5), step, count=50).latents for step in range(40)])
    assert float(latents.std()) == pytest.approx(0.5, rel=0.03)
    assert float(latents.mean()) == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize("stratified", [False, True])
def test_time_steps_are_uniform(stratified):
    steps = torch.cat([drawn(images(), step, count=8, stratified=stratified).steps for step in range(200)])
    assert 0 <= steps.min() < steps.max() <= 999
    shares = torch.histc(steps.double(), bins=10, min=0, max=1000) / len(steps)
    assert float((shares - 0.1).abs().max()) < 0.03


def test_stratified_time_steps_cover_all_parts():
    for step in range(20):
        steps = drawn(images(), step, count=8, stratified=True).steps
        assert sorted((steps // 125).tolist()) == list(range(8))


@pytest.mark.parametrize("place", range(4))
def test_every_sample_gets_time_steps_of_all_parts(place):
    parts = {int(drawn(images(), step, count=4, stratified=True).steps[place]) // 250 for step in range(60)}
    assert parts == {0, 1, 2, 3}


def test_latents_without_images_are_refused():
    with pytest.raises(DataError, match="at least one image"):
        LatentImages("cat", torch.empty(0, 4, 8, 8), torch.empty(0, 4, 8, 8), torch.zeros(4, dtype=torch.int64))
