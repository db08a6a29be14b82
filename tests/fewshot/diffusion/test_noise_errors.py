"""One row of a forward a query: equal to the plain loop, with bits that do not depend on the other queries."""

from __future__ import annotations

import math
from copy import deepcopy
from functools import partial

import pytest
import torch

from fewshot.backbones.diffusion.noise_schedule import add_noise, noise_levels
from fewshot.diffusion.lora import LoraPair, StackedLora, injected, sites
from fewshot.diffusion.noise_errors import Queries, class_contexts, errors_by_class, noise_errors, query_batches
from fewshot.diffusion.random_draws import image_noise
from fewshot.errors import DataError
from tests.tiny_diffusion import LATENTS, WIDTH, tiny_diffusion

PROMPTS = ("a photo of a cat", "a photo of a dog", "a fox on red", "hta", "a photo of a cat")
STEPS = (3, 250, 640, 999)
KEYS = ("one.jpg", "two.jpg", "three.jpg")


@pytest.fixture(scope="module")
def backbone():
    return tiny_diffusion()


@pytest.fixture(scope="module")
def latents():
    return torch.randn(len(KEYS), *LATENTS, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def texts(backbone):
    return class_contexts(backbone, PROMPTS)


def everything(images=3, labels=5, steps=STEPS):
    grid = torch.cartesian_prod(torch.arange(images), torch.arange(labels), torch.tensor(steps))
    return Queries(*grid.T.contiguous())


def shuffled(queries, seed=0):
    return torch.randperm(len(queries), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def plain(backbone, latents, texts, *, seed, norm="l2"):
    """The errors image by image, class by class and step by step, one row a forward, without this module."""
    table = torch.zeros(len(latents), len(texts), len(STEPS))
    for n, (latent, key) in enumerate(zip(latents, KEYS, strict=True)):
        for k, text in enumerate(texts):
            for i, t in enumerate(STEPS):
                share = float(backbone.alphas_cumprod[t])
                noise = image_noise(seed, key, t, LATENTS)
                noisy = math.sqrt(share) * latent + math.sqrt(1.0 - share) * noise
                predicted = backbone.unet(noisy[None], t, encoder_hidden_states=text[None]).sample[0]
                if backbone.prediction_type == "v_prediction":
                    predicted = math.sqrt(share) * predicted + math.sqrt(1.0 - share) * noisy
                difference = noise - predicted
                table[n, k, i] = (difference * difference if norm == "l2" else difference.abs()).mean()
    return table


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_batched_errors_equal_the_triple_loop(prediction_type, norm, latents):
    backbone = tiny_diffusion(prediction_type=prediction_type)
    texts = class_contexts(backbone, PROMPTS)
    found = noise_errors(backbone, latents, KEYS, texts, everything(), seed=5, norm=norm)
    expected = plain(backbone, latents, texts, seed=5, norm=norm)
    torch.testing.assert_close(found.view_as(expected), expected, rtol=1e-5, atol=1e-6)
    assert (expected[:, 0] - expected[:, 1]).abs().min() > 1e-4


def test_a_velocity_that_is_exact_has_no_error(backbone):
    noise, latent, steps = torch.randn(2, *LATENTS), torch.randn(2, *LATENTS), torch.tensor([10, 900])
    signal, spread = (part[:, None, None, None] for part in noise_levels(backbone.alphas_cumprod, steps))
    velocity = signal * noise - spread * latent
    noisy = add_noise(latent, noise, steps, backbone.alphas_cumprod)
    torch.testing.assert_close(signal * velocity + spread * noisy, noise)


def test_bits_do_not_depend_on_order_or_split_of_queries(backbone, latents, texts):
    queries = everything()
    whole = noise_errors(backbone, latents, KEYS, texts, queries, seed=5)
    order = shuffled(queries)
    assert torch.equal(noise_errors(backbone, latents, KEYS, texts, queries[order], seed=5), whole[order])
    for size in (1, 7, 23):
        parts = [
            noise_errors(backbone, latents, KEYS, texts, queries[rows], seed=5) for rows in torch.split(order, size)
        ]
        assert torch.equal(torch.cat(parts), whole[order])


def test_bits_do_not_depend_on_other_images_and_classes(backbone, latents, texts):
    whole = noise_errors(backbone, latents, KEYS, texts, everything(), seed=5).view(len(KEYS), len(PROMPTS), -1)
    some = noise_errors(backbone, latents[1:2], KEYS[1:2], texts[1:3], everything(1, 2), seed=5)
    assert torch.equal(some.view(1, 2, -1), whole[1:2, 1:3])


def test_permuting_the_classes_permutes_the_errors(backbone, latents, texts):
    order = torch.tensor([4, 2, 0, 1, 3])
    one = noise_errors(backbone, latents, KEYS, texts, everything(), seed=5).view(len(KEYS), len(PROMPTS), -1)
    other = noise_errors(backbone, latents, KEYS, texts[order], everything(), seed=5).view_as(one)
    assert torch.equal(other, one[:, order])


@pytest.mark.parametrize("batch_size", [3, 16])
def test_the_batch_size_changes_rounding_only(latents, texts, batch_size):
    one = noise_errors(tiny_diffusion(), latents, KEYS, texts, everything(), seed=5)
    other = noise_errors(tiny_diffusion(batch_size=batch_size), latents, KEYS, texts, everything(), seed=5)
    torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)


def test_identical_prompts_tie_exactly(backbone, latents, texts):
    table = noise_errors(backbone, latents, KEYS, texts, everything(), seed=5).view(len(KEYS), len(PROMPTS), -1)
    assert torch.equal(table[:, 0], table[:, 4])


def test_contexts_are_deterministic_and_independent(backbone):
    whole = class_contexts(backbone, PROMPTS * 3)
    assert whole.shape == (15, backbone.tokenizer.model_max_length, WIDTH)
    assert torch.equal(whole, class_contexts(backbone, PROMPTS * 3))
    assert torch.equal(whole[2], class_contexts(backbone, PROMPTS[2:3])[0])
    assert torch.equal(whole, backbone.embed_texts(PROMPTS * 3))


def test_noise_is_a_function_of_seed_key_and_step():
    one = image_noise(0, "a.jpg", 7, LATENTS)
    assert torch.equal(one, image_noise(0, "a.jpg", 7, LATENTS))
    for other in (
        image_noise(1, "a.jpg", 7, LATENTS),
        image_noise(0, "b.jpg", 7, LATENTS),
        image_noise(0, "a.jpg", 8, LATENTS),
    ):
        assert (one - other).abs().mean() > 0.5
    many = torch.stack([image_noise(0, f"{i}.jpg", 7, LATENTS) for i in range(200)])
    assert abs(float(many.mean())) < 0.02
    assert abs(float(many.std()) - 1.0) < 0.02


def test_noise_levels_are_exact_at_the_first_steps(backbone):
    steps = torch.arange(0, 50)
    _, spread = noise_levels(backbone.alphas_cumprod, steps)
    exact = 1.0 - torch.cumprod(1.0 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, dim=0)
    torch.testing.assert_close(spread.double().square(), exact[:50], rtol=1e-6, atol=0.0)
    in_half = 1.0 - (1.0 - exact[:50]).half().double()
    assert ((in_half - exact[:50]).abs() / exact[:50]).max() > 0.02


def test_errors_are_reduced_in_float32_in_half_precision(latents):
    backbone = tiny_diffusion(precision="bf16")
    found = noise_errors(backbone, latents, KEYS, class_contexts(backbone, PROMPTS), everything(), seed=5)
    exact = tiny_diffusion()
    reference = noise_errors(exact, latents, KEYS, class_contexts(exact, PROMPTS), everything(), seed=5)
    assert found.dtype == torch.float32
    assert not torch.equal(found, found.bfloat16().float())
    torch.testing.assert_close(found, reference, rtol=0.05, atol=0.0)


def test_batches_hold_every_query_once_sorted_by_class():
    queries = everything()[shuffled(everything())]
    found = list(query_batches(queries, num_classes=len(PROMPTS), size=10))
    assert sorted(torch.cat(found).tolist()) == list(range(len(queries)))
    for rows in found:
        part = queries[rows]
        assert len(set(zip(part.image.tolist(), part.step.tolist(), strict=True))) == 2
        assert part.label.tolist() == sorted(part.label.tolist())


def test_no_queries_give_no_errors(backbone, latents, texts):
    assert noise_errors(backbone, latents, KEYS, texts, everything(0), seed=5).shape == (0,)


@pytest.mark.parametrize("merged", [False, True])
def test_errors_that_are_not_finite_are_refused(latents, merged):
    overflowing = deepcopy(tiny_diffusion(precision="fp16"))
    overflowing.unet.conv_out.bias.data[0] = torch.inf
    texts, adapters = class_contexts(overflowing, PROMPTS), some_adapters(overflowing)
    score = partial(errors_by_class, adapters=adapters.unet) if merged else noise_errors
    with pytest.raises(DataError, match=r'errors .* are not finite in float16; set precision = "bf16"'):
        score(overflowing, latents, KEYS, texts, everything(steps=(1,)), seed=0)


def test_shapes_that_do_not_fit_are_refused(backbone, latents, texts):
    with pytest.raises(DataError, match=r"latents must be .* = \[2, 4, 8, 8\]"):
        noise_errors(backbone, latents, KEYS[:2], texts, everything(), seed=5)
    with pytest.raises(DataError, match=r"contexts must be \[K, L, 32\]"):
        noise_errors(backbone, latents, KEYS, texts[..., :3], everything(), seed=5)
    with pytest.raises(DataError, match="differ in length: 1, 2, 2"):
        Queries(torch.zeros(1).long(), torch.zeros(2).long(), torch.zeros(2).long())


def some_adapters(backbone, *, classes=5, zero=False):
    generator = torch.Generator().manual_seed(2)

    def pairs(model):
        return {
            name: LoraPair(
                torch.randn(classes, 2, layer.in_features, generator=generator) / layer.in_features**0.5,
                torch.randn(classes, layer.out_features, 2, generator=generator) * (0.0 if zero else 1.0),
            )
            for name, layer in sites(model).items()
        }

    return StackedLora(pairs(backbone.unet), pairs(backbone.text_encoder))


def adapted_errors(backbone, latents, adapters, queries, **options):
    texts = class_contexts(backbone, PROMPTS, adapters, scale=0.7)
    return noise_errors(backbone, latents, KEYS, texts, queries, seed=5, adapters=adapters.unet, scale=0.6, **options)


def test_zero_adapters_equal_the_diffusion_classifier(backbone, latents, texts):
    nothing = some_adapters(backbone, zero=True)
    found = adapted_errors(backbone, latents, nothing, everything())
    assert torch.equal(found, noise_errors(backbone, latents, KEYS, texts, everything(), seed=5))
    assert torch.equal(found.view(3, 5, -1)[:, 0], found.view(3, 5, -1)[:, 4])


def test_each_class_is_scored_with_its_own_adapters(backbone, latents, texts):
    adapters = some_adapters(backbone)
    found = adapted_errors(backbone, latents, adapters, everything()).view(3, 5, -1)
    for k in range(5):
        alone = adapters.select([k])
        with injected(backbone.text_encoder, alone.text, scale=0.7) as set_classes, torch.inference_mode():
            set_classes(torch.zeros(1, dtype=torch.int64))
            text = backbone.embed_ids(backbone.token_ids(PROMPTS[k : k + 1]))
        with injected(backbone.unet, alone.unet, scale=0.6) as set_classes:
            set_classes(torch.zeros(1, dtype=torch.int64))
            expected = plain(backbone, latents, text, seed=5)
        torch.testing.assert_close(found[:, k], expected[:, 0], rtol=1e-4, atol=1e-6)
    without = noise_errors(backbone, latents, KEYS, texts, everything(), seed=5).view(3, 5, -1)
    assert (found - without).abs().max() > 1e-2


def test_bits_with_adapters_do_not_depend_on_other_queries(backbone, latents):
    adapters, queries = some_adapters(backbone), everything()
    whole, order = adapted_errors(backbone, latents, adapters, queries), shuffled(queries)
    parts = [adapted_errors(backbone, latents, adapters, queries[rows]) for rows in torch.split(order, 17)]
    assert torch.equal(torch.cat(parts), whole[order])
    some = class_contexts(backbone, PROMPTS[2:4], adapters.select([2, 3]))
    assert torch.equal(some, class_contexts(backbone, PROMPTS, adapters)[2:4])


def test_merged_adapters_give_the_errors_of_stacked_ones(backbone, latents):
    adapters, queries = some_adapters(backbone), everything()
    texts = class_contexts(backbone, PROMPTS, adapters, scale=0.7)
    before = {name: weight.clone() for name, weight in backbone.unet.state_dict().items()}

    def merged(some):
        return errors_by_class(backbone, latents, KEYS, texts, some, seed=5, adapters=adapters.unet, scale=0.6)

    found = merged(queries)
    torch.testing.assert_close(found, adapted_errors(backbone, latents, adapters, queries), rtol=1e-5, atol=1e-6)
    order = shuffled(queries)
    assert torch.equal(torch.cat([merged(queries[part]) for part in order.split(7)]), found[order])
    assert all(torch.equal(weight, before[name]) for name, weight in backbone.unet.state_dict().items())
