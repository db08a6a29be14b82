"""Augmented views are functions of (seed, key, view) with the distribution of RandomResizedCrop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fewshot.images.augmentation import _crop_box, _generator, augmented_view
from tests.strange_files import photo


def pixels(image: Image.Image, **options) -> np.ndarray:
    return augmented_view(np.array(image), **({"size": 16, "seed": 1, "key": "a.jpg", "view": 0} | options))


@given(seed=st.integers(0, 2**40), key=st.text(st.characters(), max_size=20), view=st.integers(0, 50))
def test_a_view_is_a_function_of_seed_key_and_view(seed, key, view):
    first = pixels(photo(), seed=seed, key=key, view=view)
    pixels(photo(), seed=seed + 1, key=key, view=view)
    np.testing.assert_array_equal(first, pixels(photo(), seed=seed, key=key, view=view))
    assert first.shape == (16, 16, 3)


@pytest.mark.parametrize("other", [{"seed": 2}, {"key": "b.jpg"}, {"view": 1}])
def test_another_seed_key_or_view_is_another_view(other):
    assert (pixels(photo()) != pixels(photo(), **other)).any()


def test_views_are_the_same_in_every_version():
    boxes = [_crop_box(100, 80, (0.5, 1.0), _generator(1, "a.jpg", view)) for view in range(3)]
    assert boxes == [(20, 7, 86, 79), (8, 0, 97, 80), (8, 1, 74, 67)]


@given(width=st.integers(1, 300), height=st.integers(1, 300), view=st.integers(0, 9))
def test_a_crop_lies_inside_the_image(width, height, view):
    left, top, right, bottom = _crop_box(width, height, (0.5, 1.0), _generator(0, "k", view))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


@pytest.mark.parametrize(
    ("width", "height", "box"), [(300, 10, (143, 0, 156, 10)), (10, 300, (0, 143, 10, 156)), (300, 1, (149, 0, 150, 1))]
)
def test_of_an_image_that_no_crop_fits_the_centre_with_the_nearest_aspect_is_left(width, height, box):
    """As torchvision does: the whole shorter side, and 4/3 of it along the longer one."""
    assert _crop_box(width, height, (0.9, 1.0), _generator(0, "k", 0)) == box


@pytest.mark.parametrize("view", range(8))
def test_a_view_differs_from_pillows_by_at_most_one_level(view):
    image = photo(300, 200)
    left, top, right, bottom = _crop_box(300, 200, (0.5, 1.0), _generator(1, "a.jpg", view))
    expected = np.asarray(image.crop((left, top, right, bottom)).resize((64, 64), Image.Resampling.BICUBIC), np.int16)
    found = pixels(image, size=64, view=view).astype(np.int16)
    assert min(np.abs(found - expected).max(), np.abs(found[:, ::-1] - expected).max()) <= 1


def test_crops_have_areas_and_aspects_in_range():
    boxes = [_crop_box(400, 400, (0.5, 1.0), _generator(0, "k", view)) for view in range(500)]
    sides = np.array([(right - left, bottom - top) for left, top, right, bottom in boxes])
    areas, aspects = sides.prod(axis=1) / 400**2, sides[:, 0] / sides[:, 1]
    assert 0.49 < areas.min() < 0.52
    assert 0.95 < areas.max() <= 1.0
    assert 0.74 < aspects.min() < 0.8
    assert 1.25 < aspects.max() < 1.34


def test_half_of_the_views_are_mirrored():
    ramp = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (64, 1, 3)))
    mirrored = [pixels(ramp, view=view)[8, 0, 0] > pixels(ramp, view=view)[8, -1, 0] for view in range(200)]
    assert 0.4 < np.mean(mirrored) < 0.6
