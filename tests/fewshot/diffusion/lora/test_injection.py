"""Stacked adapters equal both ways of PEFT, merged adapters, and at scale 0 the base alone."""

import copy

import peft
import pytest
import torch
from peft import LoraConfig

from fewshot.diffusion.lora import LoraPair, initial_pairs, injected, merged, sites, unet_sites
from fewshot.errors import DataError, UnknownNameError
from tests.fewshot.diffusion.lora.stacks import RANK, SCALE, K, batch, random_pairs, random_stack
from tests.tiny_diffusion import tiny_diffusion

MIXED = torch.tensor([2, 0, 0, 3, 1, 2, 3, 2])


def predict(latents, steps, contexts):
    with torch.inference_mode():
        return tiny_diffusion().predict(latents, steps, contexts)


def stacked(classes, inputs, *, scale=SCALE, rows_per_class=1, pairs=None):
    pairs = random_stack().unet if pairs is None else pairs
    with injected(tiny_diffusion().unet, pairs, scale=scale, rows_per_class=rows_per_class) as set_classes:
        set_classes(classes)
        return predict(*inputs)


def with_peft(pairs):
    """A copy of the UNet with every class's adapter loaded by PEFT, s included."""
    config = LoraConfig(r=RANK, lora_alpha=SCALE * RANK, target_modules=sorted(pairs))
    model = peft.get_peft_model(copy.deepcopy(tiny_diffusion().unet), config, adapter_name="c0")
    for k in range(1, K):
        model.add_adapter(f"c{k}", config)
    for site, pair in pairs.items():
        layer = model.base_model.model.get_submodule(site)
        for k in range(K):
            layer.lora_A[f"c{k}"].weight.data.copy_(pair.A[k])
            layer.lora_B[f"c{k}"].weight.data.copy_(pair.B[k])
    return model.eval()


def test_adapters_change_the_prediction():
    inputs = batch(8)
    assert (stacked(MIXED, inputs) - predict(*inputs)).abs().amax(dim=(1, 2, 3)).min() > 1e-2
    assert (stacked(MIXED, inputs) - stacked((MIXED + 1) % K, inputs)).abs().amax(dim=(1, 2, 3)).min() > 1e-2


@torch.inference_mode()
def test_a_mixed_batch_equals_separate_forwards_of_peft():
    inputs, model = batch(8), with_peft(random_stack().unet)
    expected = torch.empty_like(inputs[0])
    for k in range(K):
        model.set_adapter(f"c{k}")
        rows = MIXED == k
        latents, steps, contexts = (tensor[rows] for tensor in inputs)
        expected[rows] = model(latents, steps, contexts).sample
    torch.testing.assert_close(stacked(MIXED, inputs), expected, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_a_mixed_batch_equals_adapter_names_of_peft():
    inputs, model = batch(8), with_peft(random_stack().unet)
    expected = model(*inputs, adapter_names=[f"c{k}" for k in MIXED.tolist()]).sample
    torch.testing.assert_close(stacked(MIXED, inputs), expected, rtol=1e-5, atol=1e-5)


def test_rows_that_share_a_product_give_the_same():
    inputs, classes = batch(8), torch.tensor([3, 1, 0, 2]).repeat_interleave(2)
    torch.testing.assert_close(
        stacked(classes, inputs, rows_per_class=2), stacked(classes, inputs), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("rows_per_class", [1, 2])
def test_bits_of_a_row_do_not_depend_on_the_other_rows(rows_per_class):
    inputs, others = batch(8), batch(8, seed=1)
    classes = torch.tensor([0, 1, 2, 3]).repeat_interleave(2)
    alone = classes.clone()
    alone[2:] = torch.tensor([0, 0, 3, 3, 0, 0])
    beside = [torch.cat([mine[:2], other[2:]]) for mine, other in zip(inputs, others, strict=True)]
    first = stacked(classes, inputs, rows_per_class=rows_per_class)[:2]
    assert torch.equal(first, stacked(alone, beside, rows_per_class=rows_per_class)[:2])


def test_bits_do_not_depend_on_other_classes_of_the_stack():
    inputs, stack = batch(4), random_stack()
    swapped = stack.select([3, 0, 0, 2])
    whole = stacked(torch.tensor([0, 1, 2, 3]), inputs)
    some = stacked(torch.tensor([1, 0, 3, 0]), inputs, pairs=swapped.unet)
    assert torch.equal(whole[[0, 2]], some[[0, 2]])


def test_scale_0_gives_the_base_model():
    inputs = batch(8)
    assert torch.equal(stacked(MIXED, inputs, scale=0.0), predict(*inputs))


def test_initial_adapters_give_the_base_model():
    inputs, layers = batch(K), unet_sites(tiny_diffusion().unet)
    pairs = initial_pairs(layers, [f"class {k}" for k in range(K)], rank=RANK, seed=0)
    assert torch.equal(stacked(torch.arange(K), inputs, pairs=pairs, scale=1.0), predict(*inputs))


def test_the_model_is_unchanged_after_the_context():
    inputs = batch(8)
    before = predict(*inputs)
    stacked(MIXED, inputs)
    assert torch.equal(predict(*inputs), before)
    with pytest.raises(DataError), injected(tiny_diffusion().unet, random_stack().unet):
        predict(*inputs)
    assert torch.equal(predict(*inputs), before)


def test_the_scale_may_be_multiplied_into_the_adapters():
    inputs, stack = batch(8), random_stack()
    inside = stacked(MIXED, inputs, pairs=stack.scaled(unet=SCALE, text=1.0).unet, scale=1.0)
    torch.testing.assert_close(inside, stacked(MIXED, inputs), rtol=1e-5, atol=1e-5)


def test_adapters_of_the_text_encoder_change_its_texts():
    backbone, stack = tiny_diffusion(), random_stack()
    ids = backbone.token_ids(["a cat", "a dog", "a cat"])
    with torch.inference_mode(), injected(backbone.text_encoder, stack.text) as set_classes:
        set_classes(torch.tensor([0, 1, 2]))
        first, _, third = backbone.embed_ids(ids)
    assert not torch.allclose(first, third, atol=1e-2)
    with torch.inference_mode(), merged(backbone.text_encoder, stack.text, 2):
        torch.testing.assert_close(backbone.embed_ids(ids)[2], third, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows_per_class", [1, 2])
def test_gradients_equal_those_of_separate_adapters(rows_per_class):
    backbone, inputs = tiny_diffusion(), batch(4)
    together = random_stack().mapped(lambda tensor: tensor.clone().requires_grad_())
    classes = torch.tensor([1, 1, 3, 3])
    with injected(backbone.unet, together.unet, rows_per_class=rows_per_class) as set_classes:
        set_classes(classes)
        backbone.predict(*inputs).square().sum().backward()
    alone = random_stack().select([3]).mapped(lambda tensor: tensor.clone().requires_grad_())
    with injected(backbone.unet, alone.unet) as set_classes:
        set_classes(torch.zeros(2, dtype=torch.int64))
        backbone.predict(*(tensor[2:] for tensor in inputs)).square().sum().backward()
    for site, pair in together.unet.items():
        for half, other in zip(pair, alone.unet[site], strict=True):
            assert not half.grad[[0, 2]].any()
            scale = float(other.grad.abs().max())
            torch.testing.assert_close(half.grad[3], other.grad[0], rtol=1e-4, atol=1e-5 * scale)
    assert all(parameter.grad is None for parameter in backbone.unet.parameters())


@pytest.mark.parametrize("k", range(K))
def test_merged_and_injected_adapters_agree(k):
    inputs, stack, unet = batch(3), random_stack(), tiny_diffusion().unet
    with merged(unet, stack.unet, k, scale=SCALE):
        together = predict(*inputs)
    torch.testing.assert_close(together, stacked(torch.full((3,), k), inputs), rtol=1e-5, atol=1e-5)


def test_merging_is_undone_bit_for_bit_even_after_an_error():
    unet, stack = tiny_diffusion().unet, random_stack()
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    with pytest.raises(ZeroDivisionError), merged(unet, stack.unet, 1, scale=1 / 3):
        raise ZeroDivisionError
    after = unet.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_adapters_are_applied_in_the_precision_of_the_activations():
    unet = copy.deepcopy(tiny_diffusion().unet).to(torch.bfloat16)
    latents, steps, contexts = batch(2)
    with torch.inference_mode(), injected(unet, random_stack().unet, scale=SCALE) as set_classes:
        set_classes(torch.tensor([1, 3]))
        rounded = unet(latents.bfloat16(), steps, contexts.bfloat16()).sample
    assert rounded.dtype == torch.bfloat16
    exact = stacked(torch.tensor([1, 3]), (latents, steps, contexts))
    assert (rounded.float() - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([0, 1, 2], "multiple of 2 rows"),
        ([], "multiple of 2 rows"),
        ([0, 1, 2, 2], "runs of 2 rows"),
        ([0, 0, K, K], f"classes from 0 to {K - 1}"),
        ([-1, -1, 0, 0], f"classes from 0 to {K - 1}"),
        ([0, 0, 1, 1], "a forward has 8 rows, but set_classes was called for 4"),
    ],
)
def test_classes_that_do_not_fit_the_batch_are_refused(classes, message):
    with pytest.raises(DataError, match=message):
        stacked(torch.tensor(classes, dtype=torch.int64), batch(8), rows_per_class=2)


def test_adapters_of_another_model_are_refused():
    stack, unet = random_stack(), tiny_diffusion().unet
    with pytest.raises(UnknownNameError, match="unknown adapter site"), injected(unet, stack.text):
        pass
    site, pair = next(iter(stack.unet.items()))
    with (
        pytest.raises(DataError, match="channels, but its adapter 7 to"),
        injected(unet, {site: LoraPair(pair.A[..., :7], pair.B)}),
    ):
        pass


def test_initial_adapters_depend_on_no_other_class_or_site():
    layers = unet_sites(tiny_diffusion().unet)
    some = {site: layers[site] for site in list(layers)[3:9]}
    many = initial_pairs(layers, ["cat", "dog", "fox"], rank=RANK, seed=1)
    one = initial_pairs(some, ["fox"], rank=RANK, seed=1)
    assert all(torch.equal(one[site].A[0], many[site].A[2]) for site in some)
    assert not torch.equal(many[site := next(iter(some))].A[0], many[site].A[1])
    assert not torch.equal(initial_pairs(some, ["fox"], rank=RANK, seed=2)[site].A, one[site].A)


def test_initial_adapters_are_gaussian_with_deviation_one_over_rank():
    layers = sites(tiny_diffusion().text_encoder)
    pairs = initial_pairs(layers, [str(k) for k in range(100)], rank=8, seed=0)
    values = torch.cat([pair.A.flatten() for pair in pairs.values()])
    assert float(values.std()) == pytest.approx(1 / 8, rel=0.02)
    assert not any(pair.B.any() for pair in pairs.values())


def test_random_pairs_of_the_tests_are_not_zero():
    pairs = random_pairs(sites(tiny_diffusion().text_encoder), ["cat"])
    assert all(pair.B.abs().max() > 0.1 for pair in pairs.values())
