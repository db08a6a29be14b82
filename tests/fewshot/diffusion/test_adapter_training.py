"""Adapters trained in one batch equal those trained alone, and those of PEFT."""

import copy
from dataclasses import asdict, replace

import peft
import pytest
import torch
from diffusers import DDPMScheduler
from peft import LoraConfig
from peft.tuners.lora import LoraLayer

from fewshot.backbones.diffusion.noise_schedule import add_noise
from fewshot.diffusion.adapter_training import AdapterSettings, _reproducible, clip_gradients_by_class, train_adapters
from fewshot.diffusion.image_jitter import jittered_pixels
from fewshot.diffusion.lora import injected
from fewshot.diffusion.random_draws import LatentImages, draw_samples, seeded_generator
from fewshot.errors import DataError
from tests.fewshot.diffusion.lora.stacks import batch
from tests.tiny_diffusion import LATENTS, tiny_diffusion

SHORT = AdapterSettings(steps=3, rank=2, samples=2, unet_rate=2e-3, text_rate=1e-3, clip=0.05)
NAMES = ("cat", "dog", "red fox/2.")


def images(key, prompt=None, *, shots=3, pull=1.0):
    generator = seeded_generator(0, "latents", key)
    mean = pull * torch.randn(1, *LATENTS, generator=generator) + 0.3 * torch.randn(
        shots, *LATENTS, generator=generator
    )
    (ids,) = tiny_diffusion().token_ids([prompt or f"a photo of a hta {key}"])
    return LatentImages(key, mean, torch.full_like(mean, 0.1), ids)


CLASSES = [images(name) for name in NAMES]
PRIOR = images("prior", "a photo of a thing", shots=5)


def trained(classes, settings=SHORT, *, block_size=3, seed=0, prior=PRIOR, backbone=None, **options):
    backbone = tiny_diffusion() if backbone is None else backbone
    return train_adapters(backbone, classes, settings, block_size=block_size, seed=seed, prior=prior, **options)


def tensors(lora):
    return {
        f"{part}/{site}/{half}": tensor
        for part, pairs in (("unet", lora.unet), ("text", lora.text))
        for site, pair in pairs.items()
        for half, tensor in pair._asdict().items()
    }


def equal(one, other):
    return all(torch.equal(tensor, tensors(other)[name]) for name, tensor in tensors(one).items())


def assert_close(one, other):
    for name, tensor in tensors(one).items():
        torch.testing.assert_close(
            tensor, tensors(other)[name], rtol=0, atol=1e-5, msg=lambda text, at=name: f"{at}: {text}"
        )


def test_a_block_learns_what_separate_trainings_do():
    together = trained(CLASSES)
    for k, images_of_class in enumerate(CLASSES):
        assert_close(together.select([k]), trained([images_of_class], block_size=1))


def test_training_moves_every_adapter():
    start, after = trained(CLASSES, replace(SHORT, steps=0)), trained(CLASSES)
    for name, tensor in tensors(after).items():
        assert (tensor - tensors(start)[name]).abs().amax(dim=(1, 2)).min() > 1e-4, name
    assert not any(tensor.requires_grad for tensor in tensors(after).values())


@pytest.mark.parametrize("prior", [None, PRIOR])
def test_bits_of_an_adapter_do_not_depend_on_its_block_mates(prior):
    together = trained(CLASSES, prior=prior)
    assert equal(trained(CLASSES[:1], prior=prior), together.select([0]))
    assert equal(trained([CLASSES[0], images("owl", pull=3.0)], prior=prior).select([0]), together.select([0]))


def test_bits_of_an_adapter_do_not_depend_on_its_place_in_the_block():
    assert equal(trained(CLASSES[::-1]).select([2, 1, 0]), trained(CLASSES))


def with_peft(model, pairs):
    config = LoraConfig(r=SHORT.rank, lora_alpha=SHORT.rank, target_modules=sorted(pairs), lora_dropout=0.0)
    adapted = peft.get_peft_model(copy.deepcopy(model), config).eval()
    for site, pair in pairs.items():
        layer = adapted.base_model.model.get_submodule(site)
        layer.lora_A["default"].weight.data.copy_(pair.A[0])
        layer.lora_B["default"].weight.data.copy_(pair.B[0])
    return adapted


def set_scale(model, scale):
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.scaling["default"] = scale


def encoded(images, key, step, settings):
    """What a term trains on in a step, where pixels are jittered."""
    if not settings.jitter:
        return None
    return tiny_diffusion().posterior(jittered_pixels(images, key, step, count=settings.samples, seed=0))


def trained_with_peft(shots, settings, *, prior=PRIOR, backbone=None):
    """One class without this module: two forwards, PEFT's layers, torch's clipping, the loss of diffusers' scripts."""
    backbone = tiny_diffusion() if backbone is None else backbone
    start = trained([shots], replace(settings, steps=0), block_size=1)
    unet, text = with_peft(backbone.unet, start.unet), with_peft(backbone.text_encoder, start.text)
    groups = [[p for p in model.parameters() if p.requires_grad] for model in (unet, text)]
    rates = (settings.unet_rate, settings.text_rate)
    optimizer = torch.optim.AdamW(
        [{"params": group, "lr": rate} for group, rate in zip(groups, rates, strict=True)],
        weight_decay=settings.weight_decay,
    )
    for step in range(settings.steps):
        optimizer.zero_grad()
        mutated = settings.full_scale_steps is not None and step >= settings.full_scale_steps
        set_scale(unet, settings.unet_scale if mutated else 1.0)
        set_scale(text, settings.text_scale if mutated else 1.0)
        for term, weight in ((shots, 1.0), (prior, settings.prior_weight)):
            latents, noise, steps = draw_samples(
                term,
                shots.key,
                step,
                count=settings.samples,
                num_steps=1000,
                stratified=False,
                seed=0,
                encoded=encoded(term, shots.key, step, settings),
            )
            contexts = text(term.token_ids[None]).last_hidden_state.expand(settings.samples, -1, -1)
            noisy = add_noise(latents, noise, steps, backbone.alphas_cumprod)
            schedule = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
            velocity = backbone.prediction_type == "v_prediction"
            target = schedule.get_velocity(latents, noise, steps) if velocity else noise
            error = torch.nn.functional.mse_loss(unet(noisy, steps, contexts).sample, target)
            (weight * error).backward()
        torch.nn.utils.clip_grad_norm_([*groups[0], *groups[1]], settings.clip)
        optimizer.step()
    return unet.base_model.model, text.base_model.model


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # Raised by PEFT.
@pytest.mark.parametrize(("prior_weight", "clip"), [(1.0, 0.05), (0.3, 1e3)])
def test_training_equals_that_of_peft_layers(prior_weight, clip):
    settings = replace(SHORT, prior_weight=prior_weight, clip=clip)
    assert_peft_learns(trained(CLASSES[1:2], settings), *trained_with_peft(CLASSES[1], settings))


def assert_peft_learns(ours, *theirs):
    for pairs, model in zip((ours.unet, ours.text), theirs, strict=True):
        for site, pair in pairs.items():
            layer = model.get_submodule(site)
            torch.testing.assert_close(pair.A[0], layer.lora_A["default"].weight.data, rtol=0, atol=1e-5)
            torch.testing.assert_close(pair.B[0], layer.lora_B["default"].weight.data, rtol=0, atol=1e-5)


def with_pixels(images):
    size, generator = tiny_diffusion().image_size, seeded_generator(0, "pixels", images.key)
    pixels = torch.randint(256, (len(images.mean), 3, size, size), dtype=torch.uint8, generator=generator)
    return replace(images, pixels=pixels)


PIXELS = [with_pixels(images) for images in CLASSES]
PRIOR_PIXELS = with_pixels(PRIOR)
PUBLISHED = replace(SHORT, samples=1, full_scale_steps=1, jitter=True, target="prediction")


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # Raised by PEFT.
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_published_training_equals_that_of_peft_layers(prediction_type):
    """With scales that change after the first checkpoint, jitter, and the loss of what the UNet predicts."""
    backbone = tiny_diffusion(prediction_type=prediction_type)
    ours = trained(PIXELS[1:2], PUBLISHED, prior=PRIOR_PIXELS, backbone=backbone, block_size=2)
    assert_peft_learns(ours, *trained_with_peft(PIXELS[1], PUBLISHED, prior=PRIOR_PIXELS, backbone=backbone))


@pytest.mark.parametrize(
    "change", [{"full_scale_steps": None}, {"jitter": False}, {"target": "noise"}, {"clip": 1e3}, {"prior_weight": 0.0}]
)
def test_each_part_of_the_published_training_matters(change):
    backbone = tiny_diffusion(prediction_type="v_prediction")
    one, other = (
        trained(PIXELS[:1], settings, prior=PRIOR_PIXELS, backbone=backbone, block_size=1)
        for settings in (PUBLISHED, replace(PUBLISHED, **change))
    )
    assert not equal(one, other)


def test_the_target_of_a_model_that_predicts_noise_is_the_noise():
    assert equal(trained(CLASSES, replace(SHORT, target="prediction")), trained(CLASSES))


def test_bits_with_jitter_do_not_depend_on_block_mates():
    together = trained(PIXELS, PUBLISHED, prior=PRIOR_PIXELS)
    assert equal(trained(PIXELS[2:], PUBLISHED, prior=PRIOR_PIXELS), together.select([2]))


def test_jitter_without_pixels_is_refused():
    with pytest.raises(DataError, match="cat: jitter needs the pixels"):
        trained(CLASSES, replace(SHORT, jitter=True))


def test_adapters_keep_their_identity_without_the_later_settings():
    assert SHORT.identity().keys() == {
        *("steps", "rank", "blocks", "samples", "unet_rate", "text_rate", "weight_decay", "clip", "prior_weight"),
        *("stratified", "unet_scale", "text_scale", "full_scale_steps"),
    }
    assert PUBLISHED.identity() == asdict(PUBLISHED)


def test_the_defaults_are_the_published_values():
    rates = {"unet_rate": 1e-4, "text_rate": 5e-5, "weight_decay": 1e-2, "clip": 1.0, "prior_weight": 1.0}
    scales = {"unet_scale": 0.6, "text_scale": 0.7}
    expected = {"rank": 16, "blocks": "none", "samples": 1, "stratified": False, "full_scale_steps": None}
    assert AdapterSettings(steps=5).identity() == {"steps": 5} | rates | scales | expected


def test_training_leaves_the_base_model_unchanged():
    backbone = tiny_diffusion()
    parts = {"unet": backbone.unet, "text": backbone.text_encoder}
    before = {part: {name: t.clone() for name, t in model.state_dict().items()} for part, model in parts.items()}
    trained(CLASSES)
    for part, model in parts.items():
        assert all(torch.equal(tensor, before[part][name]) for name, tensor in model.state_dict().items())
        assert all(parameter.grad is None for parameter in model.parameters())


def test_a_network_with_a_rate_of_0_learns_nothing():
    lora = trained(CLASSES, replace(SHORT, text_rate=0.0, weight_decay=0.0))
    assert not any(pair.B.any() for pair in lora.text.values())
    assert all(pair.B.any() for pair in lora.unet.values())


def test_prior_images_of_weight_0_are_ignored():
    settings = replace(SHORT, prior_weight=0.0)
    assert equal(trained(CLASSES, settings), trained(CLASSES, prior=None))
    assert not equal(trained(CLASSES), trained(CLASSES, prior=None))


def test_gradients_are_clipped_class_by_class():
    generator = torch.Generator().manual_seed(0)
    pairs = [torch.randn(3, *shape, generator=generator) for shape in ((2, 5), (4, 2))]
    gradients = [pair * torch.tensor([0.01, 1.0, 100.0]).view(-1, 1, 1) for pair in pairs]
    stacked = [torch.zeros_like(pair) for pair in pairs]
    for tensor, gradient in zip(stacked, gradients, strict=True):
        tensor.grad = gradient.clone()
    clip_gradients_by_class(stacked, 1.0)
    for k in range(3):
        alone = [torch.zeros_like(pair[k]) for pair in pairs]
        for tensor, gradient in zip(alone, gradients, strict=True):
            tensor.grad = gradient[k].clone()
        torch.nn.utils.clip_grad_norm_(alone, 1.0)
        for tensor, other in zip(stacked, alone, strict=True):
            torch.testing.assert_close(tensor.grad[k], other.grad)
    assert torch.equal(stacked[0].grad[0], gradients[0][0])


def test_the_scale_falls_after_the_full_scale_steps():
    published = replace(SHORT, full_scale_steps=2)
    assert [published.scales(step) for step in range(4)] == [(1.0, 1.0), (1.0, 1.0), (0.6, 0.7), (0.6, 0.7)]
    assert SHORT.scales(1000) == (1.0, 1.0)
    recorded = {}
    for settings in (SHORT, published):
        recorded[settings] = []
        lora = trained(CLASSES, settings, on_step=lambda _, losses, calls=recorded[settings]: calls.append(losses))
        recorded[settings].append(lora.unet)
    ours, theirs = recorded.values()
    assert torch.equal(torch.stack(ours[:2]), torch.stack(theirs[:2]))
    assert not torch.equal(ours[2], theirs[2])


def test_progress_covers_the_given_classes_only():
    calls = []
    trained(CLASSES[:2], on_step=lambda step, losses: calls.append((step, losses.shape, losses.requires_grad)))
    assert calls == [(step, (2,), False) for step in range(SHORT.steps)]


def test_another_seed_gives_another_adapter():
    assert equal(trained(CLASSES), trained(CLASSES))
    assert not equal(trained(CLASSES), trained(CLASSES, seed=1))


def test_adapters_lower_the_error_of_their_classes():
    backbone, settings = tiny_diffusion(), replace(SHORT, steps=24, samples=4, unet_rate=2e-2, stratified=True)
    losses = []
    lora = trained(CLASSES, settings, prior=None, on_step=lambda _, now: losses.append(now))
    first, last = torch.stack(losses[:6]).mean(dim=0), torch.stack(losses[-6:]).mean(dim=0)
    assert (last < 0.8 * first).all()
    inputs = batch(3)
    with torch.inference_mode(), injected(backbone.unet, lora.unet) as set_classes:
        set_classes(torch.arange(3))
        assert not torch.allclose(backbone.predict(*inputs)[0], backbone.predict(*inputs)[1])


@pytest.mark.parametrize("count", [0, 4])
def test_a_block_of_no_or_too_many_classes_is_refused(count):
    with pytest.raises(DataError, match=f"1 to 3 classes in a block, got {count}"):
        trained([images(str(k)) for k in range(count)])


def test_half_precision_is_refused():
    with pytest.raises(DataError, match="float16"):
        train_adapters(replace(tiny_diffusion(), dtype=torch.float16), CLASSES, SHORT, block_size=3, seed=0, prior=None)


@pytest.mark.parametrize(("name", "value"), [("rank", 0), ("samples", 0), ("unet_rate", -1.0), ("clip", float("nan"))])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(DataError, match=f"{name} must be"):
        replace(SHORT, **{name: value})


@pytest.mark.parametrize("prior", [None, PRIOR])
def test_checkpointing_changes_no_bit_and_is_switched_off_again(prior):
    assert equal(trained(CLASSES, prior=prior, checkpointing=True), trained(CLASSES, prior=prior))
    unet = tiny_diffusion().unet
    assert not any(getattr(module, "gradient_checkpointing", False) for module in unet.modules())


@pytest.mark.parametrize(("device", "chosen"), [("cuda", True), ("cpu", False)])
def test_training_on_a_gpu_avoids_sums_in_any_order(device, chosen):
    with _reproducible(torch.device(device)):
        assert torch.are_deterministic_algorithms_enabled() is chosen
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory


def test_adapters_are_float32_while_the_model_is_bfloat16():
    model = tiny_diffusion(precision="bf16")
    lora = train_adapters(model, CLASSES, SHORT, block_size=3, seed=0, prior=PRIOR)
    assert {model.unet.dtype, model.text_encoder.dtype} == {torch.bfloat16}
    for name, tensor in tensors(lora).items():
        assert tensor.dtype == torch.float32
        assert not torch.equal(tensor, tensor.bfloat16().float()), name
    away = [(one - other).abs().max() for one, other in zip(*map(_flat, (lora, trained(CLASSES))), strict=True)]
    assert max(away) < 0.02  # Three steps of 2e-3, in whichever direction.


def _flat(lora):
    return list(tensors(lora).values())
