"""The metrics of each protocol against slicing and counting by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewshot.evaluation.protocols import harmonic_mean, measure

NEW = torch.tensor([False, False, True, True, True])


@st.composite
def predictions(draw):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    logits = torch.randn(60, len(NEW), generator=generator)
    return logits, torch.randint(len(NEW), (60,), generator=generator)


@given(given=predictions())
def test_base_to_new_separates_the_two_groups_of_classes(given):
    logits, labels = given
    numbers, _ = measure("base-to-new", logits, labels, NEW)
    is_new = NEW[labels]
    base = (logits[~is_new][:, :2].argmax(dim=1) == labels[~is_new]).float().mean()
    new = (logits[is_new][:, 2:].argmax(dim=1) == labels[is_new] - 2).float().mean()
    assert numbers["base_accuracy"] == pytest.approx(float(base))
    assert numbers["new_accuracy"] == pytest.approx(float(new))
    assert numbers["harmonic_mean"] == pytest.approx(harmonic_mean(float(base), float(new)))


@given(given=predictions())
def test_generalized_zero_shot_averages_over_classes(given):
    logits, labels = given
    numbers, per_class = measure("generalized-zero-shot", logits, labels, NEW)
    hits = logits.argmax(dim=1) == labels
    by_class = [hits[labels == label].float().mean().item() for label in range(5)]
    assert per_class == pytest.approx(by_class, nan_ok=True)
    seen, unseen = (torch.tensor(by_class)[which].nanmean().item() for which in (~NEW, NEW))
    assert (numbers["seen_accuracy"], numbers["unseen_accuracy"]) == pytest.approx((seen, unseen))
    assert numbers["harmonic_mean"] == pytest.approx(harmonic_mean(seen, unseen))
    assert numbers["accuracy"] == pytest.approx(hits.float().mean().item())


@given(given=predictions())
def test_few_shot_accuracy_is_the_share_of_correct_images(given):
    logits, labels = given
    numbers, _ = measure("few-shot", logits, labels, torch.zeros(5, dtype=torch.bool))
    assert numbers["accuracy"] == pytest.approx((logits.argmax(dim=1) == labels).float().mean().item())


def test_a_class_without_images_has_no_accuracy():
    _, per_class = measure("base-to-new", torch.eye(5)[:4], torch.tensor([0, 1, 2, 3]), NEW)
    assert per_class[:4] == [1.0, 1.0, 1.0, 1.0]
    assert math.isnan(per_class[4])
    numbers, _ = measure("generalized-zero-shot", torch.eye(5)[:4], torch.tensor([0, 1, 2, 3]), NEW)
    assert (numbers["seen_accuracy"], numbers["unseen_accuracy"]) == (1.0, 1.0)


def test_the_harmonic_mean_of_zeros_is_zero():
    assert harmonic_mean(0.0, 0.0) == 0.0
    assert harmonic_mean(0.5, 0.5) == 0.5
    assert harmonic_mean(0.0, 1.0) == 0.0
