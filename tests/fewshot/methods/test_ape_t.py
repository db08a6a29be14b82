"""The acceptance properties of APE-T."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, normalize, one_hot

from fewshot.errors import DataError
from fewshot.key_value_cache.cache_classifier import CachePoint
from fewshot.key_value_cache.cache_training import CacheTrainingSettings
from fewshot.key_value_cache.channels import criterion_channels
from fewshot.key_value_cache.grids import default_beta
from fewshot.key_value_cache.kernel import Cache, kernel
from fewshot.methods.ape_t import ApeT
from fewshot.methods.ape_t.functional import affinity_side, moved_logits, shifts, weighted_votes
from fewshot.methods.ape_t.residual_training import train
from fewshot.methods.tip_adapter import TipAdapter
from fewshot.model_selection.cross_validation import held_out_splits
from fewshot.optimization.training_cache import no_cache
from tests.plain_adamw import minimise
from tests.problems import Cluttered, World, make_problem, problems

quick = settings(max_examples=10, deadline=None)
FIXED = {"alpha": 2.0, "beta": 3.0}
SHORT = {"max_steps": 5}
affinities = st.sampled_from(["all", "selected"])


def plain_logits(problem, features, channels, residual, weights, *, selected, alpha, beta):
    """The definition: every key is cloned and moved, and votes are added up class by class."""
    cache = Cache.from_problem(problem)
    text = problem.class_embeddings.index_add(1, channels, residual)
    if selected:
        compared, keys = (normalize(rows[:, channels], dim=1) for rows in (features, cache.keys))
        keys = keys + residual[cache.labels]
    else:
        compared, keys = features, cache.keys.index_add(1, channels, residual[cache.labels])
    affinity = torch.exp(-beta * (1.0 - compared @ keys.T)) * weights
    votes = [affinity[:, cache.labels == label].sum(dim=1) for label in range(problem.num_classes)]
    return problem.logit_scale * features @ text.T + alpha * torch.stack(votes, dim=1)


@quick
@given(made=problems(min_shots=1), selected=st.booleans(), alpha=st.floats(0.1, 20), beta=st.floats(0, 10))
def test_factorised_equals_direct_values_and_gradients(made, selected, alpha, beta):
    problem, features = made
    cache, generator = Cache.from_problem(problem), torch.Generator().manual_seed(0)
    channels = torch.tensor([1, 4, 7, 8, 15])
    start = {
        "residual": 0.3 * torch.randn(problem.num_classes, 5, generator=generator),
        "weights": torch.randn(len(cache.keys), generator=generator),
    }
    results, gradients = [], []
    for form in ("factorised", "direct"):
        learned = {name: value.clone().requires_grad_() for name, value in start.items()}
        if form == "direct":
            logits = plain_logits(
                problem, features, channels, *learned.values(), selected=selected, alpha=alpha, beta=beta
            )
        else:
            keys, compared = (affinity_side(rows, channels, selected=selected) for rows in (cache.keys, features))
            votes = weighted_votes(keys @ compared.T, learned["weights"], cache.counts, beta=beta)
            moved = shifts(features, learned["residual"], channels, selected=selected)
            logits = moved_logits(
                features, problem.class_embeddings, votes, moved, alpha=alpha, beta=beta, logit_scale=100.0
            )
        logits.logsumexp(dim=1).sum().backward()
        results.append(logits.detach())
        gradients.append([value.grad for value in learned.values()])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-3)
    for fast, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-3, atol=1e-3)


@quick
@given(made=problems(), affinity=affinities, alpha=st.floats(0.1, 20), beta=st.floats(0, 10))
def test_a_classifier_is_the_direct_form(made, affinity, alpha, beta):
    problem, features = made
    fitted = ApeT(alpha=alpha, beta=beta, affinity_channels=affinity, **SHORT).fit(problem, seed=0)
    expected = plain_logits(
        problem,
        features,
        fitted.channels,
        fitted.residual,
        fitted.weights,
        selected=affinity == "selected",
        alpha=alpha,
        beta=beta,
    )
    torch.testing.assert_close(fitted.logits(features), expected, rtol=1e-4, atol=1e-3)


@quick
@given(made=problems(), alpha=st.floats(0, 50), beta=st.floats(0, 20))
def test_before_the_first_step_it_is_tip_adapter(made, alpha, beta):
    problem, features = made
    tip = TipAdapter(alpha=alpha, beta=beta).fit(problem, seed=0).logits(features)
    untrained = ApeT(alpha=alpha, beta=beta, max_steps=0).fit(problem, seed=0)
    torch.testing.assert_close(untrained.logits(features), tip, rtol=1e-5, atol=1e-4)


@quick
@given(made=problems(min_shots=1, equal=True), fraction=st.floats(0.1, 1.0))
def test_it_has_k_times_q_plus_s_parameters(made, fraction):
    problem, _ = made
    fitted = ApeT(**FIXED, channel_fraction=fraction, max_steps=0).fit(problem, seed=0)
    shots = len(problem.support) // problem.num_classes
    assert fitted.residual.numel() + fitted.weights.numel() == problem.num_classes * (len(fitted.channels) + shots)


@pytest.mark.parametrize("affinity", ["all", "selected"])
def test_only_classes_with_shots_are_moved(affinity):
    problem, _ = make_problem([3, 0, 2, 4], image_noise=2.0)
    fitted = ApeT(**FIXED, affinity_channels=affinity, **SHORT).fit(problem, seed=0)
    assert torch.equal(fitted.residual.abs().sum(dim=1) > 0, problem.counts > 0)


def test_only_the_kept_channels_are_moved():
    problem, _ = make_problem([3, 3, 3])
    method = ApeT(**FIXED, channel_fraction=0.25, **SHORT)
    fitted = method.fit(problem, seed=0)
    kept = criterion_channels(
        problem.class_embeddings, Cache.from_problem(problem), fraction=0.25, similarity_weight=0.5, source="text"
    )
    assert torch.equal(fitted.channels, kept)
    others = torch.ones(16, dtype=torch.bool).index_fill(0, kept, False)
    images = torch.eye(16)[others]
    untrained = ApeT(**FIXED, channel_fraction=0.25, max_steps=0).fit(problem, seed=0)
    weighted = kernel(images @ fitted.keys.T, beta=3.0) * (fitted.weights - 1.0)
    by_weights = 2.0 * torch.stack([part.sum(dim=1) for part in weighted.split(3, dim=1)], dim=1)
    torch.testing.assert_close(fitted.logits(images), untrained.logits(images) + by_weights)


def test_the_sweep_gives_the_logits_of_a_fit():
    problem, _ = make_problem([3, 2, 4])
    points = [CachePoint(alpha, beta) for alpha in (0.0, 1.0, 30.0) for beta in (0.5, 8.0)]
    for affinity in ("all", "selected"):
        method = partial(ApeT, affinity_channels=affinity, **SHORT)
        for split in held_out_splits(problem, seed=0):
            swept = dict(method()._sweep(split, points, seed=0, training_cache=no_cache))
            assert swept.keys() == set(points)
            for point, found in swept.items():
                fitted = method(**point._asdict()).fit(split.problem, seed=0)
                torch.testing.assert_close(found, fitted.logits(split.queries.features), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("selected", [False, True])
def test_residuals_and_weights_take_the_published_steps_of_adamw(selected):
    """Rate 1e-3, betas 0.9 and 0.999, eps 1e-3, decay 0.1 on both, half a cosine, from 0 and from 1."""
    steps = 12
    problem = World(3, image_noise=1.5).problem([3, 2, 4], views=1)
    cache, channels = Cache.from_problem(problem), torch.tensor([1, 4, 7, 8, 15])
    features, labels = cache.keys.double(), cache.labels
    compared = normalize(features[:, channels], dim=1) if selected else features
    scale, beta = problem.logit_scale, default_beta(compared.float())

    def loss(parameters):
        residual, weights = parameters["residual"], parameters["weights"]
        text = problem.class_embeddings.double().index_add(1, channels, residual)
        keys = compared + residual[labels] if selected else compared.index_add(1, channels, residual[labels])
        affinity = torch.exp(-beta * (1.0 - compared @ keys.T)) * (1.0 - torch.eye(9).double()) * weights
        votes = affinity @ one_hot(labels, 3).double()
        return cross_entropy(scale * features @ text.T + 30.0 * scale * 3 / 9 * votes, labels)

    start = {"residual": torch.zeros(3, 5), "weights": torch.ones(9)}
    expected = minimise(start, loss, steps=steps, rate=1e-3, eps=1e-3, weight_decay=0.1)
    training = CacheTrainingSettings(min_steps=steps, epochs=0)
    found = train(problem, channels, selected=selected, settings=training, seed=0)
    for name, value in found.items():
        torch.testing.assert_close(value.double(), expected[name], rtol=0, atol=1e-6)


def test_channels_that_may_move_are_four_fifths_by_equal_parts_of_the_criterion():
    method = ApeT(max_steps=0).select(make_problem([2, 2, 2])[0], seed=0)
    assert (method.channel_fraction, method.similarity_weight, method.criterion_source) == (0.8, 0.5, "text")


def test_common_directions_are_learned_to_be_ignored():
    there = Cluttered(8, dim=32, name_noise=float("inf"))
    problem, (features, labels) = there.problem([16] * 8), there.test_images(400)
    trained, tip = (
        float((method.fit(problem, seed=0).logits(features).argmax(dim=1) == labels).double().mean())
        for method in (ApeT(alpha=1000.0, beta=4.0), TipAdapter(alpha=1000.0, beta=4.0))
    )
    assert trained > tip + 0.05


@pytest.mark.parametrize(
    "wrong",
    [{"alpha": -1.0}, {"channel_fraction": 0.0}, {"criterion_source": "image"}, {"affinity_channels": "some"}],
)
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        ApeT(**wrong)
