"""The criterion and the selection of channels."""

from functools import partial

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot.key_value_cache.channels import (
    interclass_similarity,
    interclass_variance,
    select_channels,
    text_and_shot_means,
)
from tests.problems import World

quick = settings(max_examples=15, deadline=None)


@quick
@given(classes=st.integers(2, 8), vectors=st.integers(1, 3), seed=st.integers(0, 50))
def test_closed_form_similarity_equals_the_sum_over_pairs(classes, vectors, seed):
    g = torch.rand(classes, vectors, 12, generator=torch.Generator().manual_seed(seed))
    pairs = [(i, j) for i in range(classes) for j in range(classes) if i != j]
    brute = sum(g[i, m] * g[j, n] for i, j in pairs for m in range(vectors) for n in range(vectors))
    torch.testing.assert_close(
        interclass_similarity(g.mean(dim=1)), brute / (len(pairs) * vectors**2), rtol=1e-5, atol=1e-6
    )


@quick
@given(classes=st.integers(2, 40), seed=st.integers(0, 50))
def test_text_similarity_follows_from_mean_and_variance(classes, seed):
    text = World(classes, seed=seed).text
    expected = text.mean(dim=0).square() - interclass_variance(text) / classes
    torch.testing.assert_close(interclass_similarity(text), expected, rtol=1e-4, atol=1e-6)


def test_similarities_sum_to_the_mean_interclass_cosine():
    text = World(7).text
    cosines = text @ text.T
    mean = (cosines.sum() - cosines.trace()) / (7 * 6)
    torch.testing.assert_close(interclass_similarity(text).sum(), mean)


def test_lambda_weighs_similarity_against_variance():
    text = World(7).text
    means = text_and_shot_means(text, text, torch.ones(7, dtype=torch.int64))
    kept = partial(select_channels, means, text, fraction=0.25)
    assert kept(similarity_weight=1.0).tolist() == sorted(interclass_similarity(means).argsort()[:4].tolist())
    assert kept(similarity_weight=0.0).tolist() == sorted((-interclass_variance(text)).argsort()[:4].tolist())


@quick
@given(less=st.floats(0.01, 1), more=st.floats(0.01, 1), seed=st.integers(0, 20))
def test_fewer_channels_are_a_subset_of_more(less, more, seed):
    text = World(5, seed=seed).text
    kept = partial(select_channels, text, text, similarity_weight=0.5)
    small, large = (set(kept(fraction=fraction).tolist()) for fraction in sorted((less, more)))
    assert small
    assert small <= large
