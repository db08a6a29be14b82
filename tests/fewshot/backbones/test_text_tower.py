"""Context vectors replace the embeddings of words in every family of towers, and nothing else changes."""

from __future__ import annotations

import pytest
import torch

from fewshot.backbones import ClipSpec, load_clip
from fewshot.backbones.text_tower import TextTower, tower
from fewshot.errors import BackboneError, DataError
from tests import towers

NAMES = ["pear", "golden apple", "Dr. No", "x ray", "photo of a very old red house", "dog (wild)"]
FAMILIES = {
    "clip": towers.clip,
    "clip pooled at eos": lambda: towers.clip(pool_type="eos", eos_id=49407),
    "clip without a mask": lambda: towers.clip(no_causal_mask=True, pool_type="last"),
    "custom text": towers.custom_text,
    "custom text without a mask": lambda: towers.custom_text(no_causal_mask=True),
    "siglip": towers.siglip,
    "coca": towers.coca,
    "hugging face": towers.hugging_face,
}
CUT = {"clip", "clip pooled at eos", "custom text", "hugging face"}

every_family = pytest.mark.parametrize("family", FAMILIES)


def encode_text(model, tokenize, texts):
    return model.encode_text(torch.stack(list(tokenize(texts)))).float()


@every_family
def test_a_context_of_word_embeddings_gives_the_feature_of_the_text(family):
    model, tokenize = FAMILIES[family]()
    there = TextTower(model, tokenize)
    prompts = there.prompts(NAMES, context=4)
    expected = encode_text(model, tokenize, [f"a nice old pic {name}." for name in NAMES])
    features = there.encode(prompts, there.embed_phrase("a nice old pic"))
    assert (there.width, there.dim) == (32, 16)
    torch.testing.assert_close(features, expected, atol=2e-6, rtol=1e-5)


@every_family
def test_sequences_are_cut_only_where_cutting_is_exact(family):
    there = TextTower(*FAMILIES[family]())
    assert (there.prompts(NAMES, context=4).ids.shape[1] < towers.LENGTH - 1) == (family in CUT)


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - CUT))
def test_padding_changes_the_feature_of_uncut_families(family):
    model, tokenize = FAMILIES[family]()
    ids = torch.stack(list(tokenize(["a pear."])))
    longer, other = ids.clone(), ids.clone()
    other[0, -1] = 3 if family == "siglip" else 5
    assert (model.encode_text(longer) - model.encode_text(other)).abs().max() > 1e-4


@every_family
def test_a_feature_does_not_depend_on_other_classes(family):
    there = TextTower(*FAMILIES[family]())
    context = there.embed_phrase("a nice old pic")
    together = there.encode(there.prompts(NAMES, context=4), context)
    for name, row in zip(NAMES, together, strict=True):
        alone = there.encode(there.prompts([name], context=4), context)[0]
        torch.testing.assert_close(alone, row, atol=1e-6, rtol=1e-5)


@every_family
def test_equal_contexts_of_classes_equal_a_shared_context(family):
    there = TextTower(*FAMILIES[family]())
    prompts, context = there.prompts(NAMES, context=4), there.embed_phrase("a nice old pic")
    of_each = context.expand(len(NAMES), -1, -1)
    torch.testing.assert_close(there.encode(prompts, of_each), there.encode(prompts, context), atol=0.0, rtol=0.0)


@every_family
def test_only_the_context_gets_a_gradient(family):
    model, tokenize = FAMILIES[family]()
    there = TextTower(model, tokenize)
    context = there.embed_phrase("a nice old pic").requires_grad_()
    there.encode(there.prompts(NAMES, context=4), context).square().sum().backward()
    assert context.grad is not None
    assert (context.grad.abs().amax(dim=1) > 0).all()
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("family", sorted(CUT - {"hugging face"}))
def test_slots_after_the_end_of_a_causal_sequence_get_no_gradient(family):
    there = TextTower(*FAMILIES[family]())
    prompts = there.prompts(["pear", "photo of a very old red house"], context=2)
    behind = type(prompts)(prompts.ids, torch.tensor([[1, prompts.ids.shape[1] - 1], [1, 2]]))
    context = torch.zeros(2, 2, there.width, requires_grad=True)
    # The tower runs at the whole length here: tokens after the end are present and must not matter.
    there._forward(behind.ids, behind.slots, context).square().sum().backward()
    assert context.grad[0, 0].abs().max() > 0
    assert context.grad[0, 1].abs().max() == 0


def test_the_name_comes_after_inside_or_before_the_context():
    there = towers.tiny_tower()
    slots = {where: there.prompts(["pear"], context=4, position=where) for where in ("end", "middle", "front")}
    assert {where: prompts.slots[0].tolist() for where, prompts in slots.items()} == {
        "end": [1, 2, 3, 4],
        "middle": [1, 2, 4, 5],
        "front": [2, 3, 4, 5],
    }
    assert len({prompts.ids.shape for prompts in slots.values()}) == 1
    assert len({int(prompts.ids.argmax(dim=1)) for prompts in slots.values()}) == 1


@pytest.mark.parametrize("position", ["middle", "front"])
def test_a_context_around_the_name_gives_the_feature_of_the_text(position):
    model, tokenize = towers.clip()
    there = TextTower(model, tokenize)
    text = {"middle": "a nice pear old pic.", "front": "pear a nice old pic."}[position]
    features = there.encode(there.prompts(["pear"], context=4, position=position), there.embed_phrase("a nice old pic"))
    torch.testing.assert_close(features, encode_text(model, tokenize, [text]), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_float32_context_trains_a_tower_of_half_precision(precision):
    model, tokenize = towers.clip(precision=precision)
    there = TextTower(model, tokenize)
    context = there.embed_phrase("a nice old pic").requires_grad_()
    features = there.encode(there.prompts(NAMES, context=4), context)
    expected = encode_text(model, tokenize, [f"a nice old pic {name}." for name in NAMES])
    torch.testing.assert_close(features, expected, atol=2e-2, rtol=2e-2)
    features.sum().backward()
    assert features.dtype == context.grad.dtype == torch.float32
    assert context.grad.isfinite().all()
    assert context.grad.abs().max() > 0


def test_recomputed_activations_give_the_same_features_and_gradients(monkeypatch):
    there = towers.tiny_tower()
    prompts, context = there.prompts(NAMES, context=4), there.embed_phrase("a nice old pic")
    weights = torch.randn(len(NAMES), there.dim, generator=torch.Generator().manual_seed(0))

    def gradient():
        leaf = context.clone().requires_grad_()
        features = there.encode(prompts, leaf)
        (features * weights).sum().backward()
        return features.detach(), leaf.grad

    whole = gradient()
    monkeypatch.setattr(tower, "CHUNK", 2)
    monkeypatch.setattr(tower, "RESIDENT", 3)
    for again, before in zip(gradient(), whole, strict=True):
        torch.testing.assert_close(again, before, atol=1e-6, rtol=1e-5)


@every_family
def test_bits_of_a_row_do_not_depend_on_others_at_a_fixed_batch_size(family):
    there = TextTower(*FAMILIES[family]())
    prompts, context = there.prompts(NAMES * 3, context=4), there.embed_phrase("a nice old pic")
    together = there.encode(prompts, context, batch=8)
    order = torch.tensor([16, 3, 7, 0, 11])
    assert torch.equal(there.encode(prompts[order], context, batch=8), together[order])


def test_an_empty_context_gives_the_name_alone():
    model, tokenize = towers.clip()
    there = TextTower(model, tokenize)
    features = there.encode(there.prompts(NAMES, context=0), torch.zeros(0, 32))
    expected = encode_text(model, tokenize, [f"{name}." for name in NAMES])
    torch.testing.assert_close(features, expected, atol=2e-6, rtol=1e-5)


def test_prompts_can_be_selected_and_repeated():
    there = towers.tiny_tower()
    prompts, context = there.prompts(NAMES, context=2), there.embed_phrase("a photo")
    index = torch.tensor([2, 0, 2])
    torch.testing.assert_close(there.encode(prompts[index], context), there.encode(prompts, context)[index])
    assert len(prompts[index]) == 3


@every_family
def test_names_too_long_for_the_tower_are_refused(family):
    there = TextTower(*FAMILIES[family]())
    there.prompts(["word " * 14], context=4)
    with pytest.raises(DataError, match="do not fit"):
        there.prompts(["pear", "word " * towers.LENGTH], context=4)
    with pytest.raises(DataError, match="do not fit"):
        there.prompts(["pear"], context=towers.LENGTH - 1)


def test_a_context_of_the_wrong_shape_is_refused():
    there = towers.tiny_tower()
    with pytest.raises(DataError, match="context must be"):
        there.encode(there.prompts(NAMES, context=4), torch.zeros(3, 32))


def test_models_of_an_unknown_layout_are_refused():
    with pytest.raises(BackboneError, match="Linear"):
        TextTower(torch.nn.Linear(2, 2), towers.byte_pairs())


def test_a_tokenizer_that_splits_placeholders_is_refused():
    def letters(texts):
        return [torch.tensor([1, *(ord(letter) for letter in text * 2), 2]) for text in texts]

    with pytest.raises(BackboneError, match="one token"):
        TextTower(towers.clip()[0], letters).prompts(["pear"], context=2)


@pytest.mark.embedded
@pytest.mark.slow
def test_the_embedded_tower_takes_context_vectors():
    clip = load_clip(ClipSpec())
    prompts = clip.text_tower.prompts(NAMES, context=4)
    expected = clip.embed_texts([f"a photo of a {name}." for name in NAMES])
    torch.testing.assert_close(clip.text_tower.encode(prompts, clip.text_tower.embed_phrase("a photo of a")), expected)
    assert prompts.ids.shape[1] < 16
    assert clip.text_tower is clip.text_tower
