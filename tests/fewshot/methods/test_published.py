"""`recipe = "published"` against plain twins of the authors' formulas, and against frozen numbers.

Everything is in float64, so that a twin with sums in another order agrees to 1e-6 after hundreds of steps. The twins
have one-hot matrices, loops over pairs, and optimizers written out.
"""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch.nn.functional import normalize, one_hot

from fewshot.calibration.calibrate import fit_calibrated
from fewshot.key_value_cache.published_settings import APE_RUNS, TIP_ADAPTER_RUNS
from fewshot.methods import build_method
from fewshot.methods.ape import Ape
from fewshot.methods.ape_t import ApeT
from fewshot.methods.clip_adapter import ClipAdapter
from fewshot.methods.tip_adapter import TipAdapter
from fewshot.methods.tip_adapter_f import TipAdapterF
from fewshot.optimization.training_cache import InMemoryCache
from fewshot.problem import Labelled, Problem
from tests.problems import space

K, D, S = 5, 16, 4


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def made_problem(*, val: int = 8, views: int = 1) -> tuple[Problem, torch.Tensor]:
    """Return a problem that is neither trivial nor hopeless, its shots with one augmented view each, and queries."""
    generator = torch.Generator().manual_seed(7)

    def noise(*shape, size):
        return size * torch.randn(shape, generator=generator)

    centres = normalize(noise(K, D, size=1.0), dim=1)

    def images(count, number_of_views):
        labels = torch.arange(K).repeat_interleave(count)
        plain = 3.0 * centres[labels] + noise(len(labels), D, size=1.0)
        return Labelled(plain[:, None] + noise(len(labels), number_of_views, D, size=0.2), labels)

    text = normalize(centres + noise(K, D, size=0.25), dim=1)
    chosen_on = images(val, 1) if val else None
    return Problem(space(K), text, images(S, 1 + views), chosen_on, 100.0), images(6, 1).features


@pytest.fixture
def made(double_precision):
    return made_problem()


def axis(end, steps, start=0.1):
    return [start + i * (end - start) / steps for i in range(steps)]


def search(problem, logits_at, axes):
    """The authors' search: nested loops, and only a strictly better accuracy replaces the best."""
    best, chosen = -1, None
    for point in product(*axes):
        accuracy = int((logits_at(*point).argmax(dim=1) == problem.val.labels).sum())
        if accuracy > best:
            best, chosen = accuracy, point
    return chosen


def parts(problem):
    """Val features, averaged keys, one-hot values and text, as the authors have them."""
    keys = normalize(problem.support.views[:, 1:].mean(dim=1), dim=1)
    return problem.val.features, keys, one_hot(problem.support.labels, K).double(), problem.class_embeddings


def tip_logits(features, keys, values, text, *, alpha, beta):
    return 100.0 * features @ text.T + alpha * torch.exp(-beta * (1.0 - features @ keys.T)) @ values


def adam_w(parameters, loss, *, steps, rate, epsilon, decay):
    """AdamW along half a cosine, written out."""
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    for step in range(steps):
        now = rate * 0.5 * (1.0 + math.cos(math.pi * step / steps))
        gradients = torch.autograd.grad(loss(*parameters), parameters)
        for parameter, gradient, (first, second) in zip(parameters, gradients, moments, strict=True):
            with torch.no_grad():
                parameter.mul_(1.0 - now * decay)
                first.mul_(0.9).add_(0.1 * gradient)
                second.mul_(0.999).add_(0.001 * gradient**2)
                size = (second / (1.0 - 0.999 ** (step + 1))).sqrt() + epsilon
                parameter.sub_(now * (first / (1.0 - 0.9 ** (step + 1))) / size)
    return [parameter.detach() for parameter in parameters]


def cross_entropy(logits, labels):
    return -torch.log_softmax(logits, dim=1)[torch.arange(len(labels)), labels].mean()


def trained_tip_keys(problem, *, alpha, epochs):
    _, keys, values, text = parts(problem)
    drawn, labels = normalize(problem.support.views[:, 1], dim=1), problem.support.labels

    def loss(trained):
        return cross_entropy(tip_logits(drawn, trained, values, text, alpha=alpha, beta=1.0), labels)

    start = keys.clone().requires_grad_()
    return adam_w([start], loss, steps=epochs, rate=1e-3, epsilon=1e-4, decay=0.01)[0]


def close(ours, twin):
    torch.testing.assert_close(ours, twin, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("data_set", ["imagenet", "flowers102"])
def test_tip_adapter_searches_as_its_authors_do(made, data_set):
    problem, queries = made
    features, keys, values, text = parts(problem)
    run = TIP_ADAPTER_RUNS[data_set]

    def logits_at(beta, alpha):
        return tip_logits(features, keys, values, text, alpha=alpha, beta=beta)

    beta, alpha = search(problem, logits_at, [axis(run.max_beta, 200), axis(run.max_alpha, 20)])
    method = TipAdapter(recipe="published", data_set=data_set).select(problem, seed=0)
    assert (method.alpha, method.beta) == (alpha, beta)
    ours = method.fit(problem, seed=0).logits(queries)
    close(ours, tip_logits(queries, keys, values, text, alpha=alpha, beta=beta))


@pytest.mark.parametrize("data_set", ["imagenet", "eurosat"])
def test_tip_adapter_f_trains_as_its_authors_do(made, data_set):
    problem, queries = made
    features, _, values, text = parts(problem)
    run = TIP_ADAPTER_RUNS[data_set]
    keys = trained_tip_keys(problem, alpha=run.start_alpha, epochs=run.epochs)

    def logits_at(beta, alpha):
        return tip_logits(features, keys, values, text, alpha=alpha, beta=beta)

    beta, alpha = search(problem, logits_at, [axis(run.max_beta, 200), axis(run.max_alpha, 20)])
    method = TipAdapterF(recipe="published", data_set=data_set).select(problem, seed=0)
    assert (method.alpha, method.beta, method.epochs) == (alpha, beta, run.epochs)
    ours = method.fit(problem, seed=0).logits(queries)
    close(ours, tip_logits(queries, keys, values, text, alpha=alpha, beta=beta))


def channels_by_loops(text, keys, *, count, weight, with_images):
    """The criterion by its definition: all pairs of vectors of different classes."""
    vectors = [[text[k], *(keys[S * k : S * (k + 1)] if with_images else [])] for k in range(K)]
    m = len(vectors[0])
    similarity = sum(a * b for i in range(K) for j in range(K) if i != j for a in vectors[i] for b in vectors[j])
    similarity = similarity / (K * (K - 1) * m * m)
    variance = ((text - text.mean(dim=0)) ** 2).sum(dim=0) / (K - 1)
    return (weight * similarity - (1.0 - weight) * variance).argsort()[:count]


def test_ape_refines_weighs_and_searches_as_its_authors_do(made):
    problem, queries = made
    features, keys, values, text = parts(problem)
    kept = channels_by_loops(text, keys, count=round(500 / 1024 * D), weight=0.7, with_images=True)
    small_keys, small_text = normalize(keys[:, kept], dim=1), normalize(text[:, kept], dim=1)
    predicted = (small_keys @ small_text.T).softmax(dim=1)
    divergence = (values * torch.log2((values + 1e-6) / (predicted + 1e-6))).sum(dim=1)

    def logits_of(rows, beta, alpha, gamma):
        affinity = torch.exp(-beta * (1.0 - normalize(rows[:, kept], dim=1) @ small_keys.T))
        return 100.0 * rows @ text.T + alpha * affinity @ (torch.exp(gamma * divergence)[:, None] * values)

    axes = [axis(7.0, 200), axis(7.0, 20), axis(0.5, 5, start=0.0)]
    beta, alpha, gamma = search(problem, lambda *point: logits_of(features, *point), axes)
    method = Ape(recipe="published").select(problem, seed=0)
    assert (method.beta, method.alpha, method.gamma) == (beta, alpha, gamma)
    close(method.fit(problem, seed=0).logits(queries), logits_of(queries, beta, alpha, gamma))


@pytest.mark.parametrize("data_set", ["eurosat", "food101"])
def test_ape_t_trains_as_its_authors_do(made, data_set):
    problem, queries = made
    features, keys, values, text = parts(problem)
    run = APE_RUNS[data_set]
    count = round(run.trained_channels / 1024 * D)
    kept = channels_by_loops(text, keys, count=count, weight=0.2, with_images=False).sort().values
    drawn, labels = normalize(problem.support.views[:, 1], dim=1), problem.support.labels

    def logits_of(rows, residual, weights, *, alpha, beta):
        padded = torch.zeros(K, D).index_copy(1, kept, residual)
        affinity = torch.exp(-beta * (1.0 - rows @ (keys + padded[labels]).T))
        return 100.0 * rows @ (text + padded).T + alpha * affinity @ (weights[:, None] * values)

    def loss(residual, weights):
        return cross_entropy(logits_of(drawn, residual, weights, alpha=run.start_alpha, beta=1.0), labels)

    start = [torch.zeros(K, count).requires_grad_(), torch.ones(K * S).requires_grad_()]
    trained = adam_w(start, loss, steps=run.epochs, rate=run.learning_rate, epsilon=run.epsilon, decay=0.1)
    axes = [axis(run.max_beta, 200), axis(run.max_alpha, 20)]
    beta, alpha = search(problem, lambda beta, alpha: logits_of(features, *trained, alpha=alpha, beta=beta), axes)
    method = ApeT(recipe="published", data_set=data_set).select(problem, seed=0)
    assert (method.beta, method.alpha) == (beta, alpha)
    close(method.fit(problem, seed=0).logits(queries), logits_of(queries, *trained, alpha=alpha, beta=beta))


def test_clip_adapter_trains_as_its_authors_do(made):
    problem, queries = made
    drawn, labels, text = problem.support.views[:, 1], problem.support.labels, problem.class_embeddings
    generator = torch.Generator().manual_seed(0)
    network = [(2.0 * torch.rand(shape, generator=generator) - 1.0) / shape[0] ** 0.5 for shape in ((D, 4), (4, D))]

    def logits_of(rows, down, up):  # of features that are not normalised, as theirs
        mixed = 0.2 * torch.relu(torch.relu(rows @ down) @ up) + 0.8 * rows
        return 100.0 * normalize(mixed, dim=1) @ text.T

    velocity = [torch.zeros_like(weight) for weight in network]
    for epoch in range(200):
        rate = 1e-5 if epoch == 0 else 2e-3 * 0.5 * (1.0 + math.cos(math.pi * (epoch - 1) / 200))
        leaves = [weight.detach().requires_grad_() for weight in network]
        gradients = torch.autograd.grad(cross_entropy(logits_of(drawn, *leaves), labels), leaves)
        gradients = [gradient + 5e-4 * weight for gradient, weight in zip(gradients, network, strict=True)]
        velocity = [0.9 * old + gradient for old, gradient in zip(velocity, gradients, strict=True)]
        network = [weight - rate * speed for weight, speed in zip(network, velocity, strict=True)]
    ours = ClipAdapter(recipe="published").fit(problem, seed=0)
    close(ours.logits(queries), logits_of(5.0 * queries, *network))


GOLDEN = {
    "tip_adapter": [44.9915212, 5.0007033, 29.2776752],
    "tip_adapter_f": [45.4238831, 5.4393447, 29.6833349],
    "ape": [75.0421906, 32.0997585, 50.3387385],
    "ape_t": [58.8297797, 18.1982832, 42.457761],
    "clip_adapter": [56.3578685, -1.6535375, 25.6255326],
}
"""Logits of three images for three classes, of the default data set."""


@pytest.mark.parametrize("name", ["tip_adapter", "tip_adapter_f", "ape", "ape_t", "clip_adapter"])
def test_the_published_numbers_are_frozen(made, name):
    problem, queries = made
    logits = build_method(name, recipe="published").fit(problem, seed=0).logits(queries)
    close(logits[[0, 13, 29], [0, 1, 2]], torch.tensor(GOLDEN[name]))


@pytest.mark.parametrize("name", ["tip_adapter", "tip_adapter_f", "ape", "ape_t", "clip_adapter"])
def test_what_is_given_replaces_what_is_published(made, name):
    problem, _ = made
    given = {"residual_ratio": 0.5} if name == "clip_adapter" else {"alpha": 0.25, "beta": 2.0}
    method = build_method(name, recipe="published", **given).select(problem, seed=0)
    assert {key: getattr(method, key) for key in given} == given


@pytest.mark.parametrize("name", ["tip_adapter", "tip_adapter_f", "ape", "ape_t", "clip_adapter"])
def test_calibration_and_choice_use_the_validation_images_alone(made, name):
    problem, _ = made
    cache, given = InMemoryCache(), {"alpha": 1.0} if name == "ape" else {}
    report = fit_calibrated(
        build_method(name, recipe="published", **given), problem, seed=0, training_cache=cache
    ).report
    assert (report.source, report.images) == ("val", len(problem.val))
    assert len(cache._states) == (name not in ("tip_adapter", "ape"))


@pytest.mark.parametrize(
    ("name", "expected"), [("tip_adapter", (1.0, 5.5)), ("ape", (2.0, 1.0)), ("ape_t", (2.0, 1.0))]
)
def test_one_shot_without_validation_takes_the_published_defaults(name, expected):
    problem, _ = made_problem(val=0)
    one = problem.with_support(problem.support[torch.arange(0, K * S, S)])
    method = build_method(name, recipe="published").select(one, seed=0)
    assert (method.alpha, method.beta) == expected


def test_the_published_search_of_ape_nests_gamma_in_alpha_in_beta():
    grid = Ape(recipe="published", data_set="dtd")._published_grid()
    assert len(grid) == 200 * 20 * 20
    assert [point.gamma for point in grid[:20]] == axis(1.0, 20, start=0.0)
    assert len({(point.beta, point.alpha) for point in grid[:20]}) == 1
    assert [point.alpha for point in grid[:400:20]] == axis(7.0, 20)
    assert len({point.beta for point in grid[:400]}) == 1


def test_food101_has_a_larger_epsilon_with_one_or_two_shots():
    assert [APE_RUNS["food101"].epsilon_for(shots) for shots in (1, 2, 4)] == [1e-2, 1e-2, 1e-3]
    assert APE_RUNS["dtd"].epsilon_for(1) == 1e-3
