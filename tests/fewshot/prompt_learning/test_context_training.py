"""The sample of classes in the softmax of a step."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from fewshot.prompt_learning.context_training import sampled_classes


@given(num_classes=st.integers(2, 40), count=st.integers(2, 40), images=st.integers(1, 60), seed=st.integers(0, 9))
def test_a_step_samples_its_own_classes_first(num_classes, count, images, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_classes, (images,), generator=generator)
    classes = sampled_classes(labels, num_classes=num_classes, count=count, generator=generator)
    assert len(classes) == min(num_classes, count)
    assert classes.tolist() == sorted(set(classes.tolist()))
    own = set(labels.tolist())
    assert len(own & set(classes.tolist())) == min(len(own), len(classes))


def test_every_class_is_sampled_eventually():
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([3])
    drawn = [sampled_classes(labels, num_classes=6, count=3, generator=generator) for _ in range(50)]
    assert set(torch.cat(drawn).tolist()) == set(range(6))
    assert all(3 in classes for classes in drawn)
