"""Grey values of unknown range take the smallest known range that contains them all; pixels are copied once."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from fewshot.images.rgb_conversion import to_array, to_bytes


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 1.0], [0.0, 255.0]),
        ([0.0, 255.0], [0.0, 255.0]),
        ([0.0, 1.5], [0.0, 1.5]),
        ([0.0, 65535.0], [0.0, 255.0]),
        ([-1.0, 1.0], [0.0, 255.0]),
        ([0.0, 131070.0], [0.0, 255.0]),
        ([-3.0, -3.0], [0.0, 0.0]),
        ([1.0, math.inf], [255.0, 0.0]),
        ([0.5, math.nan], [127.5, 0.0]),
    ],
)
def test_the_largest_value_of_a_known_range_is_white(values, expected):
    np.testing.assert_array_equal(to_bytes(np.array([values])), [expected])


@pytest.mark.parametrize("size", [(1, 1), (1024, 1024), (1025, 1024), (1 << 21, 1), (1, 1 << 21), (700, 3001)])
def test_the_pixels_of_an_image_are_copied_in_bands(size):
    image = Image.effect_noise(size, 50).convert("RGB")
    tracemalloc.start()
    pixels = to_array(image)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(pixels, np.asarray(image))
    assert pixels.flags.writeable
    assert peak < pixels.nbytes + (12 << 20)
