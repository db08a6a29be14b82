"""Resizing is Pillow's up to rounding, and its bits depend on nothing but the pixels and the sizes."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import interpolate
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as torchvision

from fewshot.images.resizing import TorchCrop, central_square, resize
from tests.strange_files import photo

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
SIDES = st.integers(1, 200)


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def threads():
    """A function that sets the number of torch threads, until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("by", FILTERS)
@given(width=SIDES, height=SIDES, new_width=SIDES, new_height=SIDES, seed=st.integers(0, 9))
def test_noise_differs_from_pillows_rows_then_columns_by_two_levels(by, width, height, new_width, new_height, seed):
    pixels = noise(width, height, seed)
    rows = Image.fromarray(pixels).resize((new_width, height), FILTERS[by])
    expected = np.asarray(rows.resize((new_width, new_height), FILTERS[by]), np.int16)
    assert np.abs(resize(pixels, new_height, new_width, by=by) - expected).max() <= 2


@pytest.mark.parametrize("by", FILTERS)
@pytest.mark.parametrize("size", [(500, 375), (333, 801), (230, 1000), (2000, 1500)])
def test_a_photograph_differs_from_pillows_by_one_level(by, size):
    image = photo(*size)
    expected = np.asarray(image.resize((298, 224), FILTERS[by]), np.int16)
    assert np.abs(resize(np.array(image), 224, 298, by=by) - expected).max() <= 1


@given(width=SIDES, height=SIDES, side=st.integers(1, 100))
def test_the_central_square_is_that_of_torchvision(width, height, side):
    image = photo(width, height)
    resized = torchvision.resize(image, [side], InterpolationMode.BICUBIC)
    expected = np.asarray(torchvision.center_crop(resized, [side]), np.int16)
    assert np.abs(central_square(np.array(image), side) - expected).max() <= 2


@given(width=SIDES, height=SIDES, side=st.integers(1, 100), more=st.integers(0, 30))
def test_size_and_place_of_the_square_are_those_of_torchvision(width, height, side, more):
    pixels, target = noise(width, height), side + more
    new_width, new_height = torchvision.resize(Image.fromarray(pixels), [target]).size
    resized = torch.from_numpy(resize(pixels, new_height, new_width)).permute(2, 0, 1)
    expected = torchvision.center_crop(resized, [side]).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(central_square(pixels, side, resized_to=target), expected)


@pytest.mark.parametrize("by", FILTERS)
@pytest.mark.parametrize("resized_to", [None, 73])
def test_a_crop_has_its_filter_and_its_margin(by, resized_to):
    image = photo(300, 200)
    resized = image.resize((3 * (resized_to or 64) // 2, resized_to or 64), FILTERS[by])
    expected = np.asarray(torchvision.center_crop(resized, [64]), np.int16)
    found = TorchCrop(64, 64, False, by, resized_to)(image).permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() <= 1


def test_a_squashed_image_has_the_height_before_the_width():
    assert TorchCrop(48, 64, True, "bicubic")(photo(300, 200)).shape == (3, 48, 64)


@pytest.mark.parametrize("by", FILTERS)
def test_the_bits_are_the_same_on_every_machine(by):
    shapes = [(500, 375, 298, 224), (90, 100, 201, 224), (64, 64, 64, 70), (1000, 33, 260, 260), (7, 5, 1, 1)]
    digest = hashlib.sha256()
    for width, height, new_width, new_height in shapes:
        digest.update(resize(noise(width, height), new_height, new_width, by=by).tobytes())
    assert digest.hexdigest()[:16] == {"bicubic": "d3d26d6bca686776", "bilinear": "699d1659233bd052"}[by]


@pytest.mark.parametrize("by", FILTERS)
def test_the_bits_do_not_depend_on_the_layout_in_memory(by):
    pixels = noise(150, 120)
    expected = resize(pixels, 50, 60, by=by)
    wide = np.zeros((140, 190, 3), np.uint8)
    wide[11:131, 17:167] = pixels
    layouts = [wide[11:131, 17:167], np.asfortranarray(pixels), pixels[::-1].copy()[::-1], pixels.copy()[:, :, :]]
    for layout in layouts:
        np.testing.assert_array_equal(resize(layout, 50, 60, by=by), expected)


@pytest.mark.parametrize("by", FILTERS)
def test_the_bits_are_those_of_a_batch_and_of_planes(by):
    pixels = torch.from_numpy(np.stack([noise(150, 120, seed) for seed in range(3)])).permute(0, 3, 1, 2)
    for images in (pixels, pixels.contiguous()):
        batch = interpolate(images, size=(50, 60), mode=by, antialias=True).permute(0, 2, 3, 1)
        for seed in range(3):
            np.testing.assert_array_equal(resize(noise(150, 120, seed), 50, 60, by=by), batch[seed].numpy())


@pytest.mark.parametrize("by", FILTERS)
def test_the_bits_do_not_depend_on_the_number_of_threads(by, threads):
    sizes = [(500, 375), (333, 801), (1200, 900), (90, 70)] * 4

    def resized(size: tuple[int, int]) -> bytes:
        return central_square(noise(*size), 224, by=by).tobytes()

    threads(1)
    expected = [resized(size) for size in sizes]
    for count in (1, 3):
        threads(count)
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(resized, sizes)) == expected
