"""The attention pool of every image tower is detected, and the folded pool equals the tower's own."""

from __future__ import annotations

import pickle

import open_clip
import pytest
import torch
from timm.layers import AttentionPool2d

from fewshot.backbones.clip import ClipBackbone
from fewshot.backbones.pooling import Pooling, attention_pools
from fewshot.backbones.pooling.pooling_detection import detect_pooling
from fewshot.errors import BackboneError, DataError, UnknownNameError

TEXT = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 1, "layers": 1}
VIT = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32}
TOWERS = {
    "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64},
    "vit": VIT,
    "vit with layer scale": VIT | {"ls_init_value": 0.1},
    "coca": VIT | {"attentional_pool": True, "attn_pooler_queries": 4, "attn_pooler_heads": 2},
}
DIM = 48


def tower(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name == "siglip":
            return siglip()
        return open_clip.CLIP(DIM, TOWERS[name], TEXT).visual.eval().requires_grad_(False)


def siglip():
    """The tower's shape at a width that takes no time."""
    import timm

    visual = open_clip.timm_model.TimmModel("test_vit", embed_dim=64, image_size=160, pool="", proj="linear")
    visual.trunk = timm.create_model("test_vit", global_pool="map", num_classes=0, class_token=False)
    return visual.eval().requires_grad_(False)


def backbone(visual, *, size, batch_size=3):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.visual = visual

        def encode_image(self, pixels):
            return self.visual(pixels)

    return ClipBackbone(
        model=Model(),
        tokenize=list,
        crop=lambda image: image,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        input_size=(size, size),
        batch_size=batch_size,
        templates=(),
        device=torch.device("cpu"),
    )


def size_of(name):
    return {"resnet": 64, "siglip": 160}.get(name, 32)


def tokens_of(visual, pixels):
    """The tokens in full precision, and the feature."""
    detected, inputs = detect_pooling(visual), []
    handle = detected.module.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    feature = visual(pixels)
    handle.remove()
    [tokens] = inputs
    return detected.pooling, tokens.flatten(2).transpose(1, 2) if tokens.ndim == 4 else tokens, feature


@pytest.fixture(params=[*TOWERS, "siglip"])
def name(request):
    return request.param


def pixels_for(name, count=3):
    side = size_of(name)
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_detected_pool_gives_the_feature_of_the_tower(name):
    pooling, tokens, feature = tokens_of(tower(name), pixels_for(name))
    torch.testing.assert_close(pooling(tokens), feature, rtol=0, atol=1e-5 * max(1.0, float(feature.abs().max())))


def test_dense_tokens_pool_to_the_features_of_the_tower(name):
    clip = backbone(tower(name), size=size_of(name))
    images = ((pixels_for(name, 4) + 1) * 127.5).to(torch.uint8)
    features, dense = clip.embed_dense(images)
    assert torch.equal(features, clip.embed_images(images))
    assert dense.dtype == torch.float16
    assert torch.equal(clip.embed_dense(images[3:])[1], dense[3:])
    assert [len(part) for part in clip.embed_dense(images[:0])] == [0, 0]
    scale = float(features.abs().max())
    torch.testing.assert_close(clip.pooling(dense), features, rtol=0, atol=5e-3 * scale)  # half precision


def test_each_scope_gets_gradients_of_its_tensors(name):
    pooling, tokens, _ = tokens_of(tower(name), pixels_for(name))
    for scope in pooling.scopes:
        weights = {key: value.clone().requires_grad_() for key, value in pooling.trainable(scope).items()}
        assert weights
        pooling(tokens, weights).square().sum().backward()
        assert all(value.grad is not None for value in weights.values())
        assert all(not value.requires_grad for value in pooling.weights.values())


def test_the_scopes_of_a_vit_are_nested_with_the_expected_sizes():
    pooling = detect_pooling(tower("vit")).pooling
    sizes = [
        sum(value.numel() for value in pooling.trainable(scope).values()) for scope in ("attn", "attn+proj", "block")
    ]
    C, D = 64, DIM
    assert sizes[0] == 4 * C * C + 4 * C
    assert sizes[1] - sizes[0] == C * D
    assert sizes[2] - sizes[1] == 8 * C * C + 5 * C + 6 * C


def test_replaced_weights_are_used_and_pretrained_ones_stay(name):
    pooling, tokens, feature = tokens_of(tower(name), pixels_for(name))
    changed = {key: value + 0.1 for key, value in pooling.trainable().items()}
    assert not torch.allclose(pooling(tokens, changed), feature, atol=1e-3)
    assert torch.equal(pooling(tokens, {}), pooling(tokens))


def test_changing_the_pool_leaves_the_tower_unchanged(name):
    visual = tower(name)
    pooling = detect_pooling(visual).pooling
    before = {key: value.clone() for key, value in visual.state_dict().items()}
    with torch.no_grad():
        for value in pooling.weights.values():
            value.add_(1.0)
    assert all(torch.equal(value, before[key]) for key, value in visual.state_dict().items())


@pytest.mark.parametrize("joint", [False, True])
def test_a_folded_map_pool_equals_the_plain_one_with_gradients(joint):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = AttentionPool2d(24, 3, out_features=5, embed_dim=16, head_dim=8, qkv_separate=not joint)
        for parameter in plain.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        map_ = torch.randn(4, 24, 3, 3)
    pooling = Pooling(attention_pools.map_pool_from_timm(plain, torch.nn.Identity()), attention_pools.MAP_POOL_SCOPES)
    weights = {key: value.clone().requires_grad_() for key, value in pooling.weights.items()}
    folded, expected = pooling(map_.flatten(2).transpose(1, 2), weights), plain(map_)
    torch.testing.assert_close(folded, expected, rtol=1e-5, atol=1e-5)
    folded.sin().sum().backward()
    expected.sin().sum().backward()
    gradients = {"position": plain.pos_embed.grad, "output.weight": plain.proj.weight.grad}
    if joint:
        query, key, value = plain.qkv.weight.grad.chunk(3)
        gradients |= {"query.weight": query, "key": key, "value.weight": value}
    else:
        gradients |= {"query.weight": plain.q.weight.grad, "key": plain.k.weight.grad, "value.bias": plain.v.bias.grad}
    for key, gradient in gradients.items():
        torch.testing.assert_close(weights[key].grad, gradient, rtol=1e-4, atol=1e-5)


def test_a_folded_resnet_pool_has_the_plain_gradients():
    visual = tower("resnet")
    plain = visual.attnpool.requires_grad_()
    map_ = torch.randn(3, 512, 2, 2, generator=torch.Generator().manual_seed(0)).relu()
    pooling = Pooling(attention_pools.map_pool_from_open_clip(plain), attention_pools.MAP_POOL_SCOPES)
    weights = {key: value.clone().requires_grad_() for key, value in pooling.weights.items()}
    pooling(map_.flatten(2).transpose(1, 2), weights).sin().sum().backward()
    plain(map_).sin().sum().backward()
    for key, gradient in {
        "position": plain.positional_embedding.grad,
        "query.weight": plain.q_proj.weight.grad,
        "query.bias": plain.q_proj.bias.grad,
        "key": plain.k_proj.weight.grad,
        "value.weight": plain.v_proj.weight.grad,
        "output.bias": plain.c_proj.bias.grad,
    }.items():
        torch.testing.assert_close(weights[key].grad, gradient, rtol=1e-4, atol=1e-5)
    assert plain.k_proj.bias.grad.abs().max() < 1e-5 * plain.k_proj.weight.grad.abs().max() + 1e-6


def test_a_pooling_layer_can_be_pickled():
    pooling, tokens, _ = tokens_of(tower("vit"), pixels_for("vit"))
    assert torch.equal(pickle.loads(pickle.dumps(pooling))(tokens), pooling(tokens))


def test_a_tower_without_attention_pool_is_refused_with_a_reason():
    average = open_clip.CLIP(48, VIT | {"pool_type": "avg", "final_ln_after_pool": True}, TEXT).visual
    with pytest.raises(BackboneError, match="average"):
        detect_pooling(average)
    convolutional = open_clip.timm_model.TimmModel("test_convnext", embed_dim=16, image_size=64, pool="avg")
    with pytest.raises(BackboneError, match="ConvNeXt"):
        detect_pooling(convolutional)
    rotary = open_clip.timm_model.TimmModel("test_convnext", embed_dim=16, image_size=64, pool="rot_attn", proj="none")
    with pytest.raises(BackboneError, match="no attention pool that could be tuned"):
        detect_pooling(rotary)


def test_unknown_scopes_and_weights_are_refused():
    pooling = detect_pooling(tower("resnet")).pooling
    with pytest.raises(UnknownNameError, match="Known: attn"):
        pooling.trainable("block")
    with pytest.raises(DataError, match="no weights"):
        pooling(torch.zeros(1, 4, 512), {"nonsense": torch.zeros(1)})
