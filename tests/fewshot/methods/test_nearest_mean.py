"""The properties of nearest class mean."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from fewshot.methods.nearest_mean import NearestMean
from fewshot.methods.zero_shot import ZeroShot
from tests.problems import problems, repeated

quick = settings(max_examples=15, deadline=None)


def logits(problem, features, **hyperparameters):
    return NearestMean(**hyperparameters).fit(problem, seed=0).logits(features)


@quick
@given(made=problems(min_shots=1), weight=st.floats(0, 4))
def test_it_is_the_cosine_to_the_mean_and_the_text(made, weight):
    problem, features = made
    keys, labels = problem.support.cache_keys, problem.support.labels
    means = torch.stack([normalize(keys[labels == k].sum(0), dim=0) for k in range(problem.num_classes)])
    expected = problem.logit_scale * features @ normalize(means + weight * problem.class_embeddings, dim=1).T
    torch.testing.assert_close(logits(problem, features, text_weight=weight), expected, rtol=1e-4, atol=1e-3)


@quick
@given(made=problems(min_shots=1), weight=st.floats(0, 4))
def test_listing_every_shot_twice_changes_nothing(made, weight):
    problem, features = made
    twice = logits(repeated(problem, 2), features, text_weight=weight)
    torch.testing.assert_close(twice, logits(problem, features, text_weight=weight), rtol=1e-4, atol=1e-3)


@quick
@given(made=problems(min_shots=1))
def test_with_a_large_text_weight_it_decides_like_zero_shot(made):
    problem, features = made
    zero_shot = ZeroShot().fit(problem, seed=0).logits(features)
    torch.testing.assert_close(logits(problem, features, text_weight=1e7), zero_shot, rtol=1e-3, atol=1e-2)


@quick
@given(made=problems(min_shots=0), weight=st.floats(0, 4))
def test_a_class_without_shots_is_its_text(made, weight):
    problem, features = made
    empty = problem.counts == 0
    zero_shot = ZeroShot().fit(problem, seed=0).logits(features)
    found = logits(problem, features, text_weight=weight)
    torch.testing.assert_close(found[:, empty], zero_shot[:, empty], rtol=1e-4, atol=1e-3)
