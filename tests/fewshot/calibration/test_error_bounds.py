"""Exact bounds of an error rate; what they promise of calibration is what calibration does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.calibration.abstention import ABSTAIN_ALWAYS, guaranteed_threshold
from fewshot.calibration.error_bounds import (
    error_upper_bound,
    fewest_images,
    first_count,
    least_error,
    shows,
)

rates = st.floats(0.01, 0.9)
confidences = st.floats(0.5, 0.99)


def accepts(images: int, *, max_error: float, confidence: float) -> bool:
    """Whether so many images, all labelled right, satisfy calibration."""
    scores, correct = np.linspace(0, 1, images), np.ones(images, bool)
    found = guaranteed_threshold(scores, correct, max_error=max_error, confidence=confidence)
    return found.threshold < ABSTAIN_ALWAYS


@pytest.mark.parametrize(("max_error", "fewest"), [(0.05, 45), (0.1, 22), (0.2, 11), (0.3, 7), (0.9, 1), (0.99, 1)])
def test_the_fewest_images_at_common_error_rates(max_error, fewest):
    assert fewest_images(max_error, confidence=0.9) == fewest


@given(max_error=rates, confidence=confidences)
def test_the_fewest_images_are_the_fewest_that_calibration_accepts(max_error, confidence):
    needed = fewest_images(max_error, confidence=confidence)
    assert accepts(needed, max_error=max_error, confidence=confidence)
    assert not accepts(needed - 1, max_error=max_error, confidence=confidence)


@given(held_out=st.integers(1, 2000), confidence=confidences)
def test_the_least_error_is_the_least_that_calibration_accepts(held_out, confidence):
    least = least_error(held_out, confidence=confidence)
    assert accepts(held_out, max_error=least * 1.0001, confidence=confidence)
    assert not accepts(held_out, max_error=least * 0.9999, confidence=confidence)


def test_without_held_out_images_no_error_can_be_shown():
    assert least_error(0, confidence=0.9) is None


@given(errors=st.integers(0, 30), more=st.integers(0, 100), max_error=rates, confidence=confidences)
def test_errors_show_a_rate_where_the_exact_bound_does_not_exceed_it(errors, more, max_error, confidence):
    bound = error_upper_bound(errors, errors + more, delta=1.0 - confidence)
    if errors + more and abs(bound - max_error) > 1e-6:
        assert shows(errors, errors + more, max_error=max_error, confidence=confidence) == (bound < max_error)


@pytest.mark.parametrize(
    ("images", "first"), [(0, 22), (21, 22), (22, 22), (220, 22), (221, 23), (1000, 100), (2048, 205)]
)
def test_the_search_begins_where_it_can_succeed_or_at_a_tenth(images, first):
    assert first_count(images, max_error=0.1, confidence=0.9) == first
