"""Each class's token takes the steps that it would take alone, and nothing else changes."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest
import torch
from diffusers import DDPMScheduler
from torch.nn.functional import normalize

from fewshot.diffusion.tokens import TokenPrompts, TokenRecipe, TokenShots, train_tokens
from fewshot.diffusion.tokens.token_prompts import encode_with_vectors, pool_texts, project_texts, start_vector
from fewshot.diffusion.tokens.token_shots import draw_token_samples
from fewshot.diffusion.tokens.token_training import images_to_text_loss, text_to_images_loss, token_losses
from fewshot.errors import DataError
from fewshot.methods.token_learning import Mcti
from fewshot.prompt_templates import OBJECT_TEMPLATES
from tests.problems import World, renumbered, shuffled
from tests.tiny_diffusion import DIM, tiny_diffusion, with_diffusion

SHORT = TokenRecipe(steps=3, images=2, learning_rate=0.02, classes=4)


@pytest.fixture(scope="module")
def problem():
    return with_diffusion(World(4, image_noise=0.3).problem([3, 2, 4, 3], views=2))


@pytest.fixture(scope="module")
def backbone(problem):
    return replace(problem.diffusion, templates=OBJECT_TEMPLATES)


@pytest.fixture(scope="module")
def shots(problem):
    return TokenShots.from_problem(problem)


@pytest.fixture(scope="module")
def prompts(backbone):
    return TokenPrompts.from_templates(backbone, backbone.templates, "picture")


def samples_for(shots, block, prompts, *, step=0, images=2):
    return draw_token_samples(shots, block, step=step, images=images, prompts=len(prompts), times=1000, seed=7)


def gradient(backbone, prompts, shots, block, recipe, *, vectors=None, of=slice(None)):
    """Of the summed losses of some classes of a block, at vectors that differ from class to class."""
    if vectors is None:
        vectors = start_vector(backbone, "picture") + 0.1 * torch.arange(len(block), dtype=torch.float32)[:, None]
    vectors = vectors.clone().requires_grad_()
    samples = samples_for(shots, block, prompts)
    losses = token_losses(backbone, prompts, vectors, samples, shots.bank, recipe, gamma=recipe.gamma)
    losses[of].sum().backward()
    return vectors.grad, losses.detach()


def test_training_changes_the_tokens_only(problem, backbone, shots):
    networks = (backbone.unet, backbone.text_encoder, backbone.vae)
    before = [value.clone() for network in networks for value in network.state_dict().values()]
    vectors = train_tokens(backbone, shots, [0, 1, 2], SHORT, seed=0)
    after = [value for network in networks for value in network.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    assert all(p.grad is None for network in networks for p in network.parameters())
    moved = (vectors - start_vector(backbone, "picture")).abs()
    assert (moved > 1e-3).any(dim=1).all()
    assert moved.max() < 3 * 0.02 * 1.1


def test_gamma_0_gives_textual_inversion(backbone, prompts, shots):
    inversion = replace(SHORT, gamma=0.0)
    without_projection = replace(backbone, projection=None)
    one, _ = gradient(without_projection, prompts, shots, [1], inversion)
    vectors = start_vector(backbone, "picture")[None].requires_grad_()
    samples = samples_for(shots, [1], prompts)
    hidden = encode_with_vectors(
        backbone, prompts.ids[samples.prompts], prompts.slots[samples.prompts], vectors.expand(2, -1)
    )
    signal = backbone.alphas_cumprod[samples.steps].float().view(-1, 1, 1, 1)
    noisy = signal.sqrt() * samples.latents + (1 - signal).sqrt() * samples.noise
    predicted = backbone.unet(noisy, samples.steps, encoder_hidden_states=hidden).sample
    torch.nn.functional.mse_loss(predicted, samples.noise).backward()
    torch.testing.assert_close(one, vectors.grad, rtol=1e-4, atol=1e-7)
    learned = train_tokens(without_projection, shots, [1], inversion, seed=0)
    assert torch.equal(learned, train_tokens(backbone, shots, [1], inversion, seed=0))


def published_twin(backbone, prompts, shots, k, steps):
    """MC-TI's script for one class, on the samples of this module: sum of both losses, AdamW, diffusers' target."""
    recipe = TokenRecipe()
    schedule = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    vector = start_vector(backbone, "picture").clone().requires_grad_()
    optimizer = torch.optim.AdamW([vector], lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2)
    for step in range(steps):
        samples = samples_for(shots, [k], prompts, step=step, images=4)
        optimizer.zero_grad()
        for row in range(4):  # Accumulated: each image adds a quarter.
            ids, slot = prompts.ids[samples.prompts[row]][None], prompts.slots[samples.prompts[row]][None]
            hidden = encode_with_vectors(backbone, ids, slot, vector[None])
            latents, noise, t = samples.latents[row][None], samples.noise[row][None], samples.steps[row][None]
            velocity = backbone.prediction_type == "v_prediction"
            target = schedule.get_velocity(latents, noise, t) if velocity else noise
            predicted = backbone.unet(schedule.add_noise(latents, noise, t), t, encoder_hidden_states=hidden).sample
            text = normalize(hidden[0, slot[0]] @ backbone.projection.T, dim=0)  # At the placeholder, not at the end.
            scores = (10.0 * text @ shots.bank[samples.chosen[row]].T).exp()
            loss = (target - predicted).square().mean() - (scores[k] / scores.sum()).log()
            (loss / 4).backward()
        optimizer.step()
    assert recipe.alpha == recipe.gamma == 1.0
    return vector.detach()


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_published_tokens_equal_those_of_the_script(problem, backbone, prompts, shots, prediction_type):
    model = tiny_diffusion(prediction_type=prediction_type)
    model = replace(model, projection=problem.diffusion.projection, templates=OBJECT_TEMPLATES)
    recipe = replace(Mcti(recipe="published").training(latent_side=64), steps=4, classes=2)
    found = train_tokens(model, shots, [1, 3], recipe, seed=7)
    for row, k in enumerate((1, 3)):
        expected = published_twin(model, prompts, shots, k, steps=4)
        torch.testing.assert_close(found[row], expected, rtol=0, atol=2e-5)
        assert (expected - start_vector(model, "picture")).abs().max() > 5e-3


def test_tokens_keep_their_key_without_the_target():
    assert "target" not in TokenRecipe().identity()
    assert TokenRecipe(target="prediction").identity() == asdict(TokenRecipe(target="prediction"))
    assert TokenRecipe().identity().keys() == asdict(TokenRecipe()).keys() - {"target"}


def test_alpha_0_never_runs_the_unet_and_keeps_the_regulariser(backbone, prompts, shots):
    def forbidden(*_, **__):
        raise AssertionError

    without_unet = replace(backbone, unet=forbidden)
    alone, _ = gradient(without_unet, prompts, shots, [0, 1], replace(SHORT, alpha=0.0))
    both, _ = gradient(backbone, prompts, shots, [0, 1], SHORT)
    rest, _ = gradient(backbone, prompts, shots, [0, 1], replace(SHORT, gamma=0.0))
    assert alone.abs().max() > 1e-4
    torch.testing.assert_close(both - rest, alone, rtol=1e-3, atol=1e-6)


def test_only_the_coupled_loss_reaches_tokens_of_other_classes(backbone, prompts, shots):
    block = [0, 1, 2, 3]
    own, _ = gradient(backbone, prompts, shots, block, replace(SHORT, alpha=0.0), of=2)
    assert own[2].abs().max() > 1e-4
    assert own[[0, 1, 3]].abs().max() == 0
    coupled, _ = gradient(backbone, prompts, shots, block, replace(SHORT, alpha=0.0, gamma=0.0, coupled=1.0), of=2)
    assert (coupled.abs().amax(dim=1) > 1e-5).all()


def test_gradients_of_a_block_equal_those_of_separate_runs(backbone, prompts, shots):
    vectors = start_vector(backbone, "picture") + 0.1 * torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    together, losses = gradient(backbone, prompts, shots, [0, 1, 2, 3], SHORT, vectors=vectors)
    for k in range(4):
        alone, loss = gradient(backbone, prompts, shots, [k], SHORT, vectors=vectors[k : k + 1])
        torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(losses[k : k + 1], loss, rtol=1e-5, atol=1e-6)


def test_bits_of_a_gradient_do_not_depend_on_other_tokens(backbone, prompts, shots):
    one = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    other = torch.cat([one[:1], torch.randn(3, 32, generator=torch.Generator().manual_seed(1))])
    grads = [gradient(backbone, prompts, shots, [0, 1, 2, 3], SHORT, vectors=v)[0] for v in (one, other)]
    assert torch.equal(grads[0][0], grads[1][0])
    assert not torch.equal(grads[0][1], grads[1][1])


def test_bits_of_a_token_do_not_depend_on_its_block(backbone, shots):
    together = train_tokens(backbone, shots, [0, 1, 2, 3], SHORT, seed=0)
    assert torch.equal(train_tokens(backbone, shots, [2], SHORT, seed=0), together[2:3])
    assert torch.equal(train_tokens(backbone, shots, [3, 0], SHORT, seed=0), together[[3, 0]])
    assert not torch.equal(train_tokens(backbone, shots, [2], SHORT, seed=1), together[2:3])


def test_bits_do_not_depend_on_order_of_shots_and_classes(problem, shots):
    permutation = torch.tensor([2, 0, 3, 1])
    other = TokenShots.from_problem(shuffled(renumbered(problem, permutation)))
    assert other.keys == shots.keys
    assert torch.equal(other.bank, shots.bank)
    assert torch.equal(permutation[other.classes], shots.classes)


def test_samples_depend_on_class_and_step_alone(shots, prompts):
    both, alone = samples_for(shots, [1, 3], prompts), samples_for(shots, [3], prompts)
    assert torch.equal(both.noise[2:], alone.noise)
    assert torch.equal(both.chosen[2:], alone.chosen)
    assert both.targets.tolist() == [1, 1, 3, 3]
    assert not torch.equal(samples_for(shots, [3], prompts, step=1).noise, alone.noise)


def test_each_step_draws_one_image_of_every_class(shots, prompts):
    chosen = torch.cat([samples_for(shots, [0], prompts, step=step, images=50).chosen for step in range(4)])
    labels = torch.repeat_interleave(torch.arange(len(shots)), shots.counts * shots.views)
    assert torch.equal(labels[chosen], torch.arange(len(shots)).expand_as(chosen))
    assert set(chosen.flatten().tolist()) == set(range(len(shots.bank)))


def test_losses_follow_the_formula_for_features_of_any_length(problem):
    generator = torch.Generator().manual_seed(0)
    texts, bank = torch.randn(3, DIM, generator=generator), torch.randn(12, DIM, generator=generator)
    chosen, targets = torch.tensor([[0, 5, 9], [1, 4, 8], [2, 6, 11]]), torch.tensor([0, 2, 1])
    unit = normalize(bank, dim=1)
    losses = text_to_images_loss(texts, unit, chosen, targets, scale=10.0)
    expected = [
        -math.log(math.exp(10 * cos[t]) / sum(math.exp(10 * c) for c in cos))
        for cos, t in zip(
            [(normalize(w, dim=0) @ unit[rows].T).tolist() for w, rows in zip(texts, chosen, strict=True)],
            targets,
            strict=True,
        )
    ]
    torch.testing.assert_close(losses, torch.tensor(expected))
    torch.testing.assert_close(text_to_images_loss(7.0 * texts, unit, chosen, targets, scale=10.0), losses)
    same = unit[:1].expand(12, -1)
    torch.testing.assert_close(
        text_to_images_loss(texts, same, chosen, targets, scale=10.0), torch.full((3,), math.log(3))
    )
    images = same[None, :2].expand(5, 2, DIM)
    ties = images_to_text_loss(texts[:1, None].expand(5, 2, DIM), images, scale=10.0)
    torch.testing.assert_close(ties, torch.full((5, 2), math.log(5)))
    longer = problem.with_support(replace(problem.support, views=4.0 * problem.support.views))
    assert torch.equal(
        TokenShots.from_problem(longer).bank.sort(dim=0).values,
        TokenShots.from_problem(problem).bank.sort(dim=0).values,
    )


def test_the_coupled_loss_is_a_softmax_over_the_texts_of_an_image():
    generator = torch.Generator().manual_seed(0)
    texts, images = torch.randn(4, 2, DIM, generator=generator), torch.randn(4, 2, DIM, generator=generator)
    images = normalize(images, dim=2)
    found = images_to_text_loss(texts, images, scale=10.0)
    for c in range(4):
        for j in range(2):
            scores = 10.0 * torch.cosine_similarity(images[c, j], texts[:, j], dim=1)
            torch.testing.assert_close(found[c, j], scores.logsumexp(dim=0) - scores[c])
    torch.testing.assert_close(images_to_text_loss(3.0 * texts, images, scale=10.0), found)


def test_samples_come_from_the_posterior_at_all_times_and_with_all_prompts(problem, prompts):
    latents = torch.zeros_like(problem.support.latents)
    latents[:, 0], latents[:, 1] = 3.0, 0.5
    flat = TokenShots.from_problem(problem.with_support(replace(problem.support, latents=latents)))
    drawn = samples_for(flat, [0], prompts, images=4000)
    assert float(drawn.latents.mean()) == pytest.approx(3.0, abs=0.01)
    assert float(drawn.latents.std()) == pytest.approx(0.5, rel=0.02)
    assert float(drawn.noise.std()) == pytest.approx(1.0, rel=0.02)
    assert set(drawn.prompts.tolist()) == set(range(len(prompts)))
    shares = torch.histc(drawn.steps.double(), bins=10, min=0, max=1000) / 4000
    assert float((shares - 0.1).abs().max()) < 0.02


@pytest.mark.parametrize(("pool", "offset"), [("placeholder", 0), ("eos", 1)])
def test_a_text_is_pooled_at_its_token_or_at_its_end(backbone, prompts, pool, offset):
    hidden = torch.arange(24.0)[None, :, None].expand(len(prompts), -1, 32)
    where = pool_texts(hidden, prompts.slots, pool=pool)[:, 0]
    words = [len(backbone.tokenizer.tokenize(template.replace("{}", ""))) for template in OBJECT_TEMPLATES]
    assert where.tolist() == [1 + count + offset for count in words]
    ids = prompts.ids.gather(1, where.long()[:, None])[:, 0]
    token = backbone.tokenizer.eos_token_id if offset else backbone.tokenizer.convert_tokens_to_ids("picture</w>")
    assert ids.tolist() == [token] * len(prompts)


def test_a_vector_replaces_the_embedding_of_a_word(backbone, prompts):
    fox = start_vector(backbone, "fox").expand(len(prompts), -1)
    expected = backbone.embed_texts([template.replace("{}", "fox") for template in OBJECT_TEMPLATES])
    with torch.no_grad():
        found = encode_with_vectors(backbone, prompts.ids, prompts.slots, fox)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_27_templates_end_in_the_token():
    assert len(set(OBJECT_TEMPLATES)) == len(OBJECT_TEMPLATES) == 27
    assert all(template.endswith(" {}") for template in OBJECT_TEMPLATES)


def test_gamma_may_fall_exponentially_and_stays_0_at_0():
    falling = TokenRecipe(gamma=1.0, gamma_end=0.01, gamma_schedule="exponential", steps=10)
    assert [falling.gamma_at(step) for step in (0, 5)] == pytest.approx([1.0, 0.1])
    assert replace(falling, gamma=0.0).gamma_at(5) == 0.0
    assert replace(falling, gamma_schedule="constant").gamma_at(9) == 1.0


def test_unsuitable_words_and_templates_are_refused(backbone):
    with pytest.raises(DataError, match=r"is one token of the text encoder; 'elephant' is \[.*\]\. Choose another"):
        start_vector(backbone, "elephant")
    with pytest.raises(DataError, match=r"must end in its only \{\}; got \['\{\} here'\]"):
        TokenPrompts.from_templates(backbone, ["a {}", "{} here"], "fox")
    with pytest.raises(DataError, match="takes at most 22 tokens; shorten these templates"):
        TokenPrompts.from_templates(backbone, ["a " * 30 + "{}"], "fox")
    with pytest.raises(DataError, match=r"no text_projection\.safetensors"):
        project_texts(replace(backbone, projection=None), torch.zeros(1, 24, 32), torch.tensor([3]), pool="eos")


def test_shots_without_latents_are_refused(problem):
    without = problem.with_support(replace(problem.support, latents=None))
    with pytest.raises(DataError, match="these images have none"):
        TokenShots.from_problem(without)


def test_a_model_that_predicts_velocities_can_be_used():
    problem = with_diffusion(World(2).problem([1, 1], views=1))
    other = replace(tiny_diffusion(prediction_type="v_prediction"), projection=problem.diffusion.projection)
    vectors = train_tokens(other, TokenShots.from_problem(problem), [0, 1], replace(SHORT, steps=1), seed=0)
    assert vectors.isfinite().all()
