"""Jitter changes brightness and contrast by the published factors, as a function of seed, class and step."""

from __future__ import annotations

import pytest
import torch

from fewshot.diffusion.image_jitter import jittered_pixels
from fewshot.diffusion.random_draws import LatentImages, draw_samples


def images(pixels, key="cat"):
    """Images whose latents are their numbers."""
    mean = torch.arange(float(len(pixels))).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    return LatentImages(key, mean, torch.zeros_like(mean), torch.zeros(4, dtype=torch.int64), pixels)


@pytest.fixture(scope="module")
def halves():
    """One image, half of it dark and half of it light, without colour."""
    rows = torch.full((1, 3, 4, 4), 60, dtype=torch.uint8)
    rows[..., 2:] = 180
    return images(rows)


def drawn(shown, step, *, key="cat", count=1, seed=0):
    return jittered_pixels(shown, key, step, count=count, seed=seed).double()


def factors(image):
    """Brightness and contrast of a change of the halves, if contrast came second, and if it came first."""
    dark, light = float(image[0, 0, 0]), float(image[0, 0, 3])
    brightness = (dark + light) / 240.0  # Contrast keeps the mean.
    return brightness, (light - dark) / 120.0 / brightness


def test_factors_lie_in_the_published_ranges_and_fill_them(halves):
    found = torch.tensor([factors(drawn(halves, step)[0]) for step in range(400)])
    brightness, contrast = found.unbind(dim=1)
    assert (brightness.min() - 0.8).abs() < 0.015
    assert (brightness.max() - 1.2).abs() < 0.015
    assert (contrast.min() - 0.9).abs() < 0.02
    assert (contrast.max() - 1.1).abs() < 0.02
    assert abs(float(brightness.mean()) - 1.0) < 0.02
    assert abs(float(torch.corrcoef(found.T)[0, 1])) < 0.15


def test_either_change_may_come_first():
    """At white, brightness clips: whether contrast sees the clipped image tells the order."""
    rows = torch.full((1, 3, 4, 4), 40, dtype=torch.uint8)
    rows[..., 2:] = 255
    shown, orders = images(rows), set()
    for step in range(60):
        image = drawn(shown, step)[0]
        if float(image[0, 0, 0]) > 46:  # Brighter, so that white was clipped.
            orders.add(bool(image.max() < 255))
    assert orders == {True, False}


def test_the_images_are_those_that_are_drawn():
    pixels = torch.stack([torch.full((3, 4, 4), 10 + 60 * k, dtype=torch.uint8) for k in range(4)])
    for step in range(4):
        rows = draw_samples(images(pixels), "cat", step, count=3, num_steps=9, stratified=False, seed=5).latents
        changed = drawn(images(pixels), step, count=3, seed=5).mean(dim=(1, 2, 3))
        expected = 10 + 60 * rows[:, 0, 0, 0]
        assert ((changed / expected - 1.0).abs() < 0.21).all()


def test_jitter_depends_on_seed_class_and_step_alone(halves):
    here = drawn(halves, 3)
    drawn(halves, 2)
    assert torch.equal(drawn(halves, 3), here)
    for other in (drawn(halves, 4), drawn(halves, 3, key="dog"), drawn(halves, 3, seed=1)):
        assert not torch.equal(other, here)


def test_encoded_images_take_the_place_of_the_stored_ones(halves):
    mean = torch.full((1, 1, 2, 2), 7.0)
    drawn_from = {"count": 1, "num_steps": 9, "stratified": False, "seed": 0}
    plain = draw_samples(halves, "cat", 0, **drawn_from)
    encoded = draw_samples(halves, "cat", 0, encoded=(mean, torch.zeros_like(mean)), **drawn_from)
    assert torch.equal(encoded.latents, mean)
    assert torch.equal(encoded.noise, plain.noise)
    assert torch.equal(encoded.steps, plain.steps)
