"""Grey values of unknown range: the smallest known range that contains them all."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fewshot.images.rgb_conversion import to_bytes


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
