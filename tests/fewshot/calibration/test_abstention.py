import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewshot.calibration.abstention import ABSTAIN_ALWAYS, error_upper_bound, fewest_images, guaranteed_threshold


def test_enough_images_without_errors_accept_everything():
    scores = torch.linspace(0.5, 1.0, 100)
    found = guaranteed_threshold(scores, torch.ones(100, dtype=torch.bool), max_error=0.05, confidence=0.9)
    assert found.threshold == 0.5
    assert found.error_bound <= 0.05


@pytest.mark.parametrize("images", [0, 1, 40])
def test_too_few_images_guarantee_nothing(images):
    found = guaranteed_threshold(
        torch.ones(images), torch.ones(images, dtype=torch.bool), max_error=0.05, confidence=0.9
    )
    assert found.threshold == ABSTAIN_ALWAYS
    assert found.error_bound is None


def test_errors_at_low_scores_raise_the_threshold():
    scores = torch.linspace(0.0, 1.0, 1000)
    found = guaranteed_threshold(scores, scores > 0.25, max_error=0.02, confidence=0.9)
    assert 0.2 < found.threshold < 0.35


@given(errors=st.integers(0, 30), more=st.integers(0, 100), delta=st.floats(0.001, 0.5))
def test_the_error_bound_is_the_exact_binomial_one(errors, more, delta):
    from scipy.stats import binom

    images = errors + more
    bound = error_upper_bound(errors, images, delta=delta)
    if more:
        assert binom.cdf(errors, images, bound) == pytest.approx(delta, rel=1e-6)
    else:
        assert bound == 1.0


def test_the_guarantee_holds_with_its_stated_confidence():
    generator = torch.Generator().manual_seed(0)
    broken = 0
    for _ in range(200):
        scores = torch.rand(300, generator=generator)
        correct = torch.rand(300, generator=generator) < 0.5 + 0.5 * scores
        threshold = guaranteed_threshold(scores, correct, max_error=0.2, confidence=0.9).threshold
        # Above a threshold t the true error is the mean of 0.5 (1 - s) over s in [t, 1].
        broken += threshold <= 1.0 and 0.25 * (1.0 - threshold) > 0.2
    assert broken <= 0.1 * 200


@given(max_error=st.floats(0.01, 0.5), confidence=st.floats(0.5, 0.99))
def test_the_fewest_images_are_the_first_that_any_threshold_passes_with(max_error, confidence):
    def passes(images):
        scores, correct = torch.ones(images), torch.ones(images, dtype=torch.bool)
        found = guaranteed_threshold(scores, correct, max_error=max_error, confidence=confidence)
        return found.threshold != ABSTAIN_ALWAYS

    fewest = fewest_images(max_error, confidence=confidence)
    assert passes(fewest)
    assert not passes(fewest - 1)
