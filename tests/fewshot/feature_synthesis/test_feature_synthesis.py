"""SHIP's generator: its training, its loss and its synthetic features."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from fewshot.backbones.text_tower import TextTower
from fewshot.feature_synthesis import (
    GeneratorSettings,
    decode,
    divergence,
    learn_generator,
    mean_cosine_within_classes,
    measure_generator,
    reconstruction,
)
from fewshot.feature_synthesis.extension import add_synthetic_shots, can_add_synthetic_shots, median_shots
from fewshot.feature_synthesis.synthesis import draw_latents, synthesise
from fewshot.feature_synthesis.vae import contexts, initial_weights, posterior, sample
from fewshot.feature_synthesis.vae_training import train
from fewshot.optimization.shots import Shots
from fewshot.optimization.training_cache import InMemoryCache, no_cache
from tests.problems import make_problem, shuffled
from tests.towers import WIDTH, clip, tiny_tower

DIM, LATENT, CONTEXT = 16, 12, 4
SHORT = GeneratorSettings(steps=4)
quick = settings(max_examples=20, deadline=None)


def weights(**changed):
    return initial_weights(dim=DIM, width=WIDTH, latent=LATENT, context=CONTEXT, seed=0) | changed


def latents(count, *, seed=0):
    return torch.randn(count, LATENT, generator=torch.Generator().manual_seed(seed))


def rows(count, *, seed=0):
    return normalize(torch.randn(count, DIM, generator=torch.Generator().manual_seed(seed)), dim=1)


def learned(problem, settings=SHORT, *, seed=0):
    return learn_generator(problem, problem.text_tower, settings, seed=seed, training_cache=no_cache)


def names_and_shots(problem):
    shots = Shots.from_problem(problem)
    return [problem.label_space.prompt_names[label] for label in shots.classes.tolist()], shots


def test_all_prompt_tokens_get_the_same_shift():
    tokens, prompts = contexts(weights(), latents(5)), weights()["prompts"]
    assert tokens.shape == (5, CONTEXT, WIDTH)
    torch.testing.assert_close(tokens[:, 1:] - tokens[:, :1], (prompts[1:] - prompts[:1]).expand(5, -1, -1))


def test_synthetic_features_are_unit_rows():
    tower = tiny_tower(DIM)
    features = synthesise(weights(), tower, ["cat", "a much longer name"], count=3, seed=0)
    assert features.shape == (6, DIM)
    assert not features.requires_grad
    torch.testing.assert_close(features.norm(dim=1), torch.ones(6))


def test_word_embeddings_decode_to_the_text_feature():
    tower = tiny_tower(DIM)
    model, tokenize = clip(DIM)
    silent = {
        f"generator.out.{name}": torch.zeros_like(weights()[f"generator.out.{name}"]) for name in ("weight", "bias")
    }
    spoken = weights(prompts=tower.embed_phrase("a photo of a"), **silent)
    decoded = decode(spoken, tower, tower.prompts(["cat", "dog house"], context=CONTEXT), latents(2))
    expected = model.encode_text(tokenize(["a photo of a cat.", "a photo of a dog house."]))
    torch.testing.assert_close(decoded, normalize(expected, dim=1), rtol=0, atol=1e-5)


def test_training_changes_everything_but_the_backbone():
    problem, _ = make_problem([4, 4, 4])
    model, tokenize = clip(DIM)
    tower, before = TextTower(model, tokenize), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    names, shots = names_and_shots(problem)
    after = train(names, shots, tower, SHORT, seed=0)
    start = initial_weights(dim=DIM, width=WIDTH, latent=DIM, context=CONTEXT, seed=0)
    assert all(not torch.equal(after[name], start[name]) for name in start)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@quick
@given(count=st.integers(1, 8), seed=st.integers(0, 99))
def test_reconstruction_of_unit_rows_follows_from_the_cosine(count, seed):
    left, right = rows(count, seed=seed), rows(count, seed=seed + 100)
    loss = reconstruction(left, right)
    torch.testing.assert_close(loss, (2.0 - 2.0 * (left * right).sum(dim=1)).mean())
    assert 0.0 <= loss <= 4.0 + 1e-6
    torch.testing.assert_close(reconstruction(left.repeat(2, 1), right.repeat(2, 1)), loss)


@quick
@given(count=st.integers(1, 8), seed=st.integers(0, 99))
def test_the_divergence_is_zero_only_for_the_prior(count, seed):
    mean, log_variance = latents(count, seed=seed), latents(count, seed=seed + 100)
    divergences = divergence(mean, log_variance)
    assert (divergences > 0).all()
    assert divergence(torch.zeros_like(mean), torch.zeros_like(mean)).sum() == 0
    torch.testing.assert_close(divergence(mean.repeat(2, 1), log_variance.repeat(2, 1)), divergences)


def test_the_divergence_equals_the_kl_of_normals():
    mean, log_variance = latents(1), latents(1, seed=1)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, torch.exp(0.5 * log_variance)), normal(0.0, 1.0))
    torch.testing.assert_close(divergence(mean, log_variance), expected[0])


def test_samples_without_variance_equal_the_mean():
    mean = latents(3)
    assert torch.equal(sample(mean, torch.full_like(mean, -1e4), latents(3, seed=1)), mean)


def test_the_generator_ignores_the_order_of_the_shots():
    problem, _ = make_problem([3, 0, 4, 2])
    one, other, another = learned(problem), learned(shuffled(problem)), learned(problem, seed=1)
    assert all(torch.equal(one[name], other[name]) for name in one if "real_spread" not in name)
    assert not torch.equal(one["prompts"], another["prompts"])


def test_the_generator_ignores_classes_without_shots():
    problem, _ = make_problem([3, 0, 4, 0])
    text, spoken = problem.class_embeddings.clone(), list(problem.label_space.prompt_names)
    text[[1, 3]] = text[[3, 1]]
    spoken[1], spoken[3] = "something else", "a much longer name of something"
    other_names = replace(problem.label_space, prompt_names=tuple(spoken))
    one, other = learned(problem), learned(replace(problem, class_embeddings=text, label_space=other_names))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_feature_depends_only_on_latent_and_name():
    tower, draws = tiny_tower(DIM), latents(3)
    prompts = tower.prompts(["cat", "dog", "a word never seen"], context=CONTEXT)
    together = decode(weights(), tower, prompts, draws)
    alone = torch.cat([decode(weights(), tower, prompts[torch.tensor([i])], draws[[i]]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    same_latent = decode(weights(), tower, prompts, draws[[0, 0, 0]])
    assert (same_latent[0] - same_latent[1]).abs().max() > 1e-3


def test_draws_of_a_name_ignore_the_other_requests():
    tower = tiny_tower(DIM)
    few = synthesise(weights(), tower, ["dog"], count=2, seed=5)
    many = synthesise(weights(), tower, ["cat", "dog", "bird"], count=7, seed=5)
    torch.testing.assert_close(many[7:9], few, rtol=0, atol=1e-6)
    assert torch.equal(draw_latents("dog", count=2, size=3, seed=5), draw_latents("dog", count=9, size=3, seed=5)[:2])
    assert not torch.equal(draw_latents("dog", count=2, size=3, seed=5), draw_latents("dog", count=2, size=3, seed=6))


def test_only_classes_without_shots_get_synthetic_ones():
    problem, _ = make_problem([3, 0, 4, 0])
    whole = add_synthetic_shots(problem, problem.text_tower, SHORT, shots=2, seed=0, training_cache=InMemoryCache())
    assert torch.equal(whole.support.labels[:7], problem.support.labels)
    assert torch.equal(whole.support.views[:7], problem.support.views)
    assert whole.support.labels[7:].tolist() == [1, 1, 3, 3]
    made = whole.support.views[7:]
    assert not made.requires_grad
    torch.testing.assert_close(made.norm(dim=2), problem.support.views.norm(dim=2).mean().expand(4, 3))


@pytest.mark.parametrize(("counts", "can"), [([1, 0], True), ([1, 1], False), ([0, 0], False)])
def test_synthesis_needs_classes_with_and_without_shots(counts, can):
    assert can_add_synthetic_shots(make_problem(counts)[0]) is can


@pytest.mark.parametrize(("counts", "typical"), [([0, 0], 1), ([4, 0, 4], 4), ([1, 9, 3, 0], 3)])
def test_the_median_counts_only_classes_with_shots(counts, typical):
    assert median_shots(make_problem(counts)[0]) == typical


@pytest.mark.parametrize(("kl_weight", "low", "high"), [(1.0, 0.0, 1e-2), (1e-3, 1.0, 1e3)])
def test_only_a_small_kl_weight_avoids_posterior_collapse(kl_weight, low, high):
    problem, _ = make_problem([6, 6, 6, 6], image_noise=0.5)
    names, shots = names_and_shots(problem)
    tower, features = problem.text_tower, normalize(shots.views[:, 0], dim=1)

    def distance(trained):
        return float(reconstruction(decode_all(trained), features))

    def decode_all(trained):
        mean, log_variance = posterior(trained, features)
        draws = sample(mean, log_variance, torch.randn(mean.shape, generator=torch.Generator().manual_seed(0)))
        return decode(trained, tower, tower.prompts(names, context=CONTEXT)[shots.labels], draws)

    settings = GeneratorSettings(kl_weight=kl_weight, batch_size=8)
    trained, untrained = (train(names, shots, tower, replace(settings, steps=n), seed=0) for n in (60, 0))
    assert distance(trained) < 0.8 * distance(untrained)
    assert low <= float(divergence(*posterior(trained, features)).sum()) < high


def test_diagnostics_are_logged_and_stored_with_the_generator(caplog):
    caplog.set_level("INFO")
    state = learned(make_problem([3, 0, 4])[0])
    facts = {name.removeprefix("diagnostics.") for name in state if name.startswith("diagnostics.")}
    assert facts == {"kl", "active_units", "reconstruction", "spread", "real_spread"}
    assert all(f"{fact}=" in caplog.text for fact in facts)
    assert not any(name.startswith("encoder.") for name in state)


def test_diagnostics_are_those_of_the_trained_weights():
    problem, _ = make_problem([3, 4], views=1)
    names, shots = names_and_shots(problem)
    trained = train(names, shots, problem.text_tower, SHORT, seed=0)
    trained["encoder.mean.weight"] = trained["encoder.mean.weight"] * 40.0
    found = measure_generator(trained, problem.text_tower, names, shots, seed=0)
    mean, log_variance = posterior(trained, normalize(shots.views[:, 0], dim=1))
    torch.testing.assert_close(found["kl"], divergence(mean, log_variance).sum())
    active = [float(mean[:, unit].var(correction=0)) > 0.01 for unit in range(mean.shape[1])]
    assert found["active_units"] == sum(active)
    assert 0 < sum(active)


def test_the_cosine_within_classes_averages_distinct_pairs():
    features, labels = rows(7), torch.tensor([0, 2, 0, 2, 2, 0, 5])
    pairs = [
        torch.stack([features[i] @ features[j] for i in own for j in own if i != j]).mean()
        for own in ((0, 2, 5), (1, 3, 4))
    ]
    torch.testing.assert_close(mean_cosine_within_classes(features, labels), torch.stack(pairs).mean())
    assert mean_cosine_within_classes(features, torch.arange(7)).isnan()
