"""The numbers of each protocol are what slicing and counting by hand give."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewshot.evaluation.protocols import harmonic_mean, measure

NEW = torch.tensor([False, False, True, True, True])


@st.composite
def answers(draw):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    logits = torch.randn(60, len(NEW), generator=generator)
    return logits, torch.randint(len(NEW), (60,), generator=generator)


@given(given=answers())
def test_base_to_new_separates_the_two_groups_of_classes(given):
    logits, truth = given
    numbers, _ = measure("base-to-new", logits, truth, NEW)
    is_new = NEW[truth]
    base = (logits[~is_new][:, :2].argmax(dim=1) == truth[~is_new]).float().mean()
    new = (logits[is_new][:, 2:].argmax(dim=1) == truth[is_new] - 2).float().mean()
    assert numbers["base_accuracy"] == pytest.approx(float(base))
    assert numbers["new_accuracy"] == pytest.approx(float(new))
    assert numbers["harmonic_mean"] == pytest.approx(harmonic_mean(float(base), float(new)))


@given(given=answers())
def test_generalized_zero_shot_averages_over_classes(given):
    logits, truth = given
    numbers, per_class = measure("generalized-zero-shot", logits, truth, NEW)
    hits = logits.argmax(dim=1) == truth
    by_class = [hits[truth == label].float().mean().item() for label in range(5)]
    assert per_class == pytest.approx(by_class, nan_ok=True)
    seen, unseen = (torch.tensor(by_class)[which].nanmean().item() for which in (~NEW, NEW))
    assert (numbers["seen_accuracy"], numbers["unseen_accuracy"]) == pytest.approx((seen, unseen))
    assert numbers["harmonic_mean"] == pytest.approx(harmonic_mean(seen, unseen))
    assert numbers["accuracy"] == pytest.approx(hits.float().mean().item())


@given(given=answers())
def test_few_shot_accuracy_is_the_share_of_correct_images(given):
    logits, truth = given
    numbers, _ = measure("few-shot", logits, truth, torch.zeros(5, dtype=torch.bool))
    assert numbers["accuracy"] == pytest.approx((logits.argmax(dim=1) == truth).float().mean().item())


def test_a_class_without_images_has_no_accuracy():
    _, per_class = measure("base-to-new", torch.eye(5)[:4], torch.tensor([0, 1, 2, 3]), NEW)
    assert per_class[:4] == [1.0, 1.0, 1.0, 1.0]
    assert math.isnan(per_class[4])


def test_the_harmonic_mean_of_zeros_is_zero():
    assert harmonic_mean(0.0, 0.0) == 0.0
    assert harmonic_mean(0.5, 0.5) == 0.5
    assert harmonic_mean(0.0, 1.0) == 0.0
