"""The acceptance properties of training-free APE."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot.errors import DataError
from fewshot.key_value_cache.kernel import Cache
from fewshot.methods.ape import Ape
from fewshot.methods.ape.functional import ApePoint, label_divergence, sweep
from fewshot.methods.tip_adapter import TipAdapter
from fewshot.methods.zero_shot import ZeroShot
from fewshot.model_selection.cross_validation import held_out_splits
from fewshot.problem import Labelled
from tests.problems import World, make_problem, problems, repeated

quick = settings(max_examples=15, deadline=None)
FIXED = {"alpha": 2.0, "beta": 4.0, "gamma": 0.5, "channel_fraction": 0.5, "similarity_weight": 0.5}


def logits(problem, features, **hyperparameters):
    return Ape(**{**FIXED, **hyperparameters}).fit(problem, seed=0).logits(features)


@quick
@given(made=problems(min_shots=1))
def test_the_divergence_is_the_definition_of_kl_in_bits(made):
    problem, _ = made
    cache = Cache.from_problem(problem)
    p = torch.softmax(cache.keys @ problem.class_embeddings.T, dim=1)
    label = torch.nn.functional.one_hot(cache.labels, problem.num_classes).float()
    expected = (label * torch.log2((label + 1e-6) / (p + 1e-6))).sum(dim=1)
    for memory_bytes in (1, 2**20):
        found = label_divergence(cache.keys, problem.class_embeddings, cache.labels, memory_bytes=memory_bytes)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_shots_that_the_text_classifies_badly_count_more():
    there = World(5, name_noise=0.3)
    text, keys = there.text, torch.stack([there.text[0], there.text[1]])
    easy, hard = label_divergence(keys, text, torch.tensor([0, 0])).tolist()
    assert easy < hard
    problem = there.problem([3] * 5)
    weights = [Ape(**{**FIXED, "gamma": gamma}).fit(problem, seed=0).weights for gamma in (0.0, 1.0)]
    assert torch.equal(weights[0], torch.ones(15))
    assert (weights[1] > 1.0).all()


@quick
@given(made=problems(), alpha=st.floats(0.1, 20), beta=st.floats(0, 20))
def test_with_all_channels_and_no_weights_it_is_tip_adapter(made, alpha, beta):
    problem, features = made
    tip = TipAdapter(alpha=alpha, beta=beta).fit(problem, seed=0).logits(features)
    ape = logits(problem, features, alpha=alpha, beta=beta, gamma=0.0, channel_fraction=1.0)
    torch.testing.assert_close(ape, tip, rtol=1e-4, atol=1e-3)


@quick
@given(made=problems())
def test_alpha_zero_is_zero_shot_exactly(made):
    problem, features = made
    assert torch.equal(logits(problem, features, alpha=0.0), ZeroShot().fit(problem, seed=0).logits(features))


@quick
@given(made=problems(min_shots=1, equal=True))
def test_with_beta_and_gamma_zero_equal_shots_decide_nothing(made):
    problem, features = made
    zero_shot = ZeroShot().fit(problem, seed=0).logits(features)
    assert torch.equal(logits(problem, features, beta=0.0, gamma=0.0).argmax(1), zero_shot.argmax(1))


@quick
@given(made=problems())
def test_with_infinite_beta_only_an_equal_image_votes(made):
    problem, features = made
    zero_shot = ZeroShot().fit(problem, seed=0).logits(features)
    torch.testing.assert_close(logits(problem, features, beta=1e6), zero_shot, rtol=1e-5, atol=1e-4)


@quick
@given(made=problems(), source=st.sampled_from(["text", "text+image"]), seed=st.integers(0, 5))
def test_the_order_of_the_channels_does_not_matter(made, source, seed):
    problem, features = made
    order = torch.randperm(problem.class_embeddings.shape[1], generator=torch.Generator().manual_seed(seed))
    support = Labelled(problem.support.views[..., order], problem.support.labels)
    other = replace(problem, class_embeddings=problem.class_embeddings[:, order], support=support)
    torch.testing.assert_close(
        logits(other, features[:, order], criterion_source=source),
        logits(problem, features, criterion_source=source),
        rtol=1e-4,
        atol=1e-3,
    )


@quick
@given(made=problems(min_shots=1), scale=st.floats(0.1, 10))
def test_the_length_of_an_encoders_output_does_not_matter(made, scale):
    problem, features = made
    longer = problem.with_support(Labelled(problem.support.views * scale, problem.support.labels))
    torch.testing.assert_close(logits(longer, features), logits(problem, features), rtol=1e-4, atol=1e-3)


@quick
@given(made=problems(), alpha=st.floats(0.1, 20))
def test_listing_every_shot_twice_is_doubling_alpha_when_only_text_chooses_the_channels(made, alpha):
    problem, features = made
    twice = logits(repeated(problem, 2), features, alpha=alpha, criterion_source="text")
    once = logits(problem, features, alpha=2 * alpha, criterion_source="text")
    torch.testing.assert_close(twice, once, rtol=1e-4, atol=1e-3)


def test_the_class_mean_makes_repeated_shots_of_one_class_irrelevant():
    problem, features = make_problem([2, 2, 2])
    again = problem.support.labels == 1
    more = problem.with_support(problem.support[torch.cat([torch.arange(6), torch.arange(6)[again]])])
    fixed = {**FIXED, "criterion_source": "text", "class_mean": True}
    once = Ape(**fixed).fit(problem, seed=0).logits(features)
    # The mean number of shots grows from 2 to 8 / 3, and alpha is in its unit.
    twice = Ape(**{**fixed, "alpha": 2.0 * 6 / 8}).fit(more, seed=0).logits(features)
    torch.testing.assert_close(twice, once, rtol=1e-4, atol=1e-4)


def test_the_sweep_gives_the_logits_of_a_fit():
    problem, _ = make_problem([3, 2, 4])
    points = [
        ApePoint(fraction, weight, beta, gamma, alpha)
        for fraction in (0.5, 1.0)
        for weight in (0.3, 0.7)
        for beta in (1.0, 6.0)
        for gamma in (0.0, 1.0)
        for alpha in (0.0, 3.0)
    ]
    for split in held_out_splits(problem, seed=0):
        swept = dict(sweep(split, points, source="text+image", class_mean=True))
        assert swept.keys() == set(points)
        for point, found in swept.items():
            method = Ape(**point._asdict(), class_mean=True)
            expected = method.fit(split.problem, seed=0).logits(split.queries.features)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_the_grid_of_alpha_spans_the_same_votes_at_every_gamma():
    problem, _ = make_problem([3] * 50)
    chosen = {gamma: Ape(beta=5.0, gamma=gamma, channel_fraction=1.0) for gamma in (0.0, 1.0)}
    points = {gamma: method._grid(problem) for gamma, method in chosen.items()}
    for plain, weighted in zip(points[0.0], points[1.0], strict=True):
        assert math.isclose(plain.alpha, weighted.alpha * 50 ** (1.0 / math.log(2.0)), rel_tol=0.01)


@pytest.mark.parametrize(
    "wrong",
    [{"gamma": 5.0}, {"channel_fraction": 0.0}, {"similarity_weight": 1.1}, {"criterion_source": "image"}],
)
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        Ape(**wrong)
