"""Adapter files are exact in half precision and readable by PEFT and diffusers; other files are refused."""

import copy
import json

import peft
import pytest
import safetensors.torch
import torch

from fewshot.diffusion.lora import LoraPair, StackedLora, injected, load_adapters, save_adapter, sites
from fewshot.errors import DataError
from tests.fewshot.diffusion.lora.stacks import RANK, K, batch, random_pairs, random_stack
from tests.tiny_diffusion import tiny_diffusion

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # Raised by PEFT.
WEIGHTS = "unet/adapter_model.safetensors"
CONFIG = "unet/adapter_config.json"
STRANGE = "Boeing 737-800/ü.\N{CROCODILE} ."


def halved(stack):
    return stack.mapped(lambda tensor: tensor.half().float())


def equal(one, other):
    return all(
        a.keys() == b.keys() and all(torch.equal(x, y) for site in a for x, y in zip(a[site], b[site], strict=True))
        for a, b in ((one.unet, other.unet), (one.text, other.text))
    )


def written(folder, files):
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def changed(files, path, change):
    """The files with the tensors or the configuration in one of them changed."""
    if path.endswith(".json"):
        return files | {path: json.dumps(json.loads(files[path]) | change).encode()}
    tensors = safetensors.torch.load(files[path])
    return files | {path: safetensors.torch.save(change(tensors))}


def outputs(stack, k, rows=2):
    """Outputs of UNet and text encoder with the adapters of one class."""
    backbone, classes = tiny_diffusion(), torch.full((rows,), k)
    ids = backbone.token_ids(["a cat"] * rows)
    with torch.inference_mode(), injected(backbone.unet, stack.unet) as in_unet:
        in_unet(classes)
        predicted = backbone.predict(*batch(rows))
    with torch.inference_mode(), injected(backbone.text_encoder, stack.text) as in_text:
        in_text(classes)
        return predicted, backbone.embed_ids(ids)


def test_loaded_adapters_equal_the_saved_ones_in_half_precision():
    stack = random_stack()
    loaded = load_adapters([save_adapter(stack, k) for k in range(K)])
    assert equal(loaded, halved(stack))
    assert not equal(loaded, stack)
    assert [save_adapter(loaded, k) for k in range(K)] == [save_adapter(stack, k) for k in range(K)]


def test_peft_loads_an_adapter_and_computes_the_same(tmp_path):
    stack, backbone = halved(random_stack()), tiny_diffusion()
    folder = written(tmp_path / STRANGE, save_adapter(stack, 2))
    unet = peft.PeftModel.from_pretrained(copy.deepcopy(backbone.unet), folder / "unet")
    encoder = peft.PeftModel.from_pretrained(copy.deepcopy(backbone.text_encoder), folder / "text_encoder")
    with torch.inference_mode():
        predicted = unet(*batch(2)).sample
        states = encoder(backbone.token_ids(["a cat"] * 2)).last_hidden_state
    expected = outputs(stack, 2)
    torch.testing.assert_close(predicted, expected[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(states, expected[1], rtol=1e-5, atol=1e-5)


def test_diffusers_loads_an_adapter_and_computes_the_same(tmp_path):
    stack, unet = halved(random_stack()), copy.deepcopy(tiny_diffusion().unet)
    folder = written(tmp_path, save_adapter(stack, 1)) / "unet"
    unet.load_lora_adapter(folder, prefix="base_model.model", weight_name="adapter_model.safetensors")
    with torch.inference_mode():
        torch.testing.assert_close(unet(*batch(2)).sample, outputs(stack, 1)[0], rtol=1e-5, atol=1e-5)


def test_adapters_saved_by_peft_are_loaded(tmp_path):
    stack, backbone = halved(random_stack()), tiny_diffusion()
    folder = written(tmp_path / "ours", save_adapter(stack, 0))
    for part, model in (("unet", backbone.unet), ("text_encoder", backbone.text_encoder)):
        peft.PeftModel.from_pretrained(copy.deepcopy(model), folder / part).save_pretrained(tmp_path / "theirs" / part)
    theirs = {
        f"{part}/{name}": (tmp_path / "theirs" / part / name).read_bytes()
        for part in ("unet", "text_encoder")
        for name in ("adapter_config.json", "adapter_model.safetensors")
    }
    assert equal(load_adapters([theirs]), stack.select([0]))


def test_the_older_layout_of_the_text_encoder_is_loaded():
    stack, path = random_stack(1), "text_encoder/adapter_model.safetensors"
    old = changed(
        save_adapter(stack, 0),
        path,
        lambda tensors: {
            name.replace("base_model.model.", "base_model.model.text_model."): tensor
            for name, tensor in tensors.items()
        },
    )
    assert b"text_model" in old[path]
    assert equal(load_adapters([old]), halved(stack))


def test_a_missing_file_is_named():
    files = save_adapter(random_stack(1), 0)
    for path in files:
        with pytest.raises(DataError, match=f"needs the file {path}"):
            load_adapters([{name: content for name, content in files.items() if name != path}])


def test_pickled_weights_are_refused():
    files = save_adapter(random_stack(1), 0)
    with pytest.raises(DataError, match="pickled weights are not read"):
        load_adapters([{"unet/adapter_model.bin": files.pop(WEIGHTS), **files}])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a pickle in a zip", b"\x80\x04\x95"])
def test_files_other_than_safetensors_are_refused(content):
    with pytest.raises(DataError, match="is not a safetensors file"):
        load_adapters([save_adapter(random_stack(1), 0) | {WEIGHTS: content}])


def without_first(tensors):
    return dict(sorted(tensors.items())[1:])


def with_unknown_site(tensors):
    return tensors | {"base_model.model.conv_in.lora_A.weight": torch.zeros(3, 4)}


def with_flat(tensors):
    return tensors | {min(tensors): torch.zeros(3)}


def with_other_rank(tensors):
    return {name: tensor.repeat(2, 1) if "lora_A" in name else tensor.repeat(1, 2) for name, tensor in tensors.items()}


def with_one_odd_rank(tensors):
    return tensors | {min(tensors): torch.zeros(RANK + 1, 8)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_first, "has only B of A and B"),
        (with_unknown_site, "conv_in.lora_A.weight' belongs to no layer"),
        (with_flat, "expected a matrix"),
        (with_other_rank, f"has rank {RANK}, but its weights have rank {2 * RANK}"),
        (with_one_odd_rank, "one rank over all sites"),
        (lambda tensors: {}, "one rank over all sites"),
    ],
)
def test_weights_that_are_not_an_adapter_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        load_adapters([changed(save_adapter(random_stack(1), 0), WEIGHTS, change)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "LOHA"}, "not a plain LoRA: peft_type is 'LOHA'"),
        ({"use_dora": True}, "not a plain LoRA: use_dora"),
        ({"lora_alpha": 2 * RANK}, "expected r = 3"),
        ({"r": None}, "not a configuration of a LoRA"),
    ],
)
def test_another_kind_of_adapter_is_refused(change, message):
    with pytest.raises(DataError, match=message):
        load_adapters([changed(save_adapter(random_stack(1), 0), CONFIG, change)])


def test_a_configuration_that_is_not_an_object_is_refused():
    with pytest.raises(DataError, match="not a configuration of a LoRA"):
        load_adapters([save_adapter(random_stack(1), 0) | {CONFIG: b"[1]"}])


def test_classes_with_different_sites_cannot_be_stacked():
    stack = random_stack(1)
    fewer = StackedLora(dict(list(stack.unet.items())[1:]), stack.text)
    with pytest.raises(DataError, match="differ in sites or ranks"):
        load_adapters([save_adapter(stack, 0), save_adapter(fewer, 0)])


def test_weights_that_overflow_half_precision_are_refused():
    stack = random_stack(1).scaled(unet=1e6, text=1.0)
    with pytest.raises(DataError, match="not finite in half precision"):
        save_adapter(stack, 0)


def test_a_stack_whose_parts_differ_in_classes_is_refused():
    stack = random_stack(2)
    text = random_pairs(sites(tiny_diffusion().text_encoder), ["a", "b", "c"])
    with pytest.raises(DataError, match=r"same number of classes, got \[2, 3\]"):
        StackedLora(stack.unet, text)
    site, pair = next(iter(stack.unet.items()))
    with pytest.raises(DataError, match="A has 2 classes and rank 3, B has 2 and 2"):
        StackedLora({site: LoraPair(pair.A, pair.B[..., :2])}, stack.text)
    with pytest.raises(DataError, match="one rank over all sites"):
        StackedLora({}, stack.text)
