"""The embedded CLIP has learned something, and its bits do not depend on the rest of the batch."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fewshot.backbones import ClipSpec, load_clip
from fewshot.backbones.clip import ClipBackbone
from fewshot.backbones.clip_spec import PROJECTIONS
from fewshot.classes import LabelSpace

pytestmark = [pytest.mark.embedded, pytest.mark.slow]


@pytest.fixture(scope="module")
def clip() -> ClipBackbone:
    return load_clip(ClipSpec())


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (7, 3, 260, 260), dtype=torch.uint8, generator=generator)


def test_bits_of_an_image_do_not_depend_on_its_batch(clip, images):
    together = clip.embed_images(images)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    assert torch.equal(clip.embed_images(images[order]), together[order])
    assert torch.equal(clip.embed_images(images[4:5]), together[4:5])


def test_the_attention_pool_equals_average_pooling_and_projection(clip, images):
    pixels = images[:2].float() / 127.5 - 1
    with torch.inference_mode():
        expected = clip.model.visual.trunk(pixels).mean(dim=(2, 3)) @ load_file(PROJECTIONS)["image"].float()
    torch.testing.assert_close(clip.embed_images(images[:2]), expected, atol=1e-4, rtol=1e-4)


def test_the_folded_pool_equals_the_plain_one_with_any_weights():
    from timm.layers.attention_pool2d import AttentionPool2d

    from fewshot.backbones.embedded_clip.folded_attention_pool import FoldedAttentionPool2d

    torch.manual_seed(0)
    options = {
        "in_features": 24,
        "feat_size": 3,
        "out_features": 5,
        "embed_dim": 16,
        "head_dim": 8,
        "qkv_separate": True,
    }
    plain, folded = AttentionPool2d(**options), FoldedAttentionPool2d(**options)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.normal_(std=0.3)
    folded.load_state_dict(plain.state_dict())
    for size in (3, 4):
        maps = torch.randn(2, 24, size, size)
        torch.testing.assert_close(folded(maps), plain(maps), atol=1e-5, rtol=1e-5)


def test_folding_batch_norms_changes_rounding_only(clip, images):
    import timm

    from fewshot.backbones.embedded_clip.packaged_weights import IMAGE_TOWER, image_weights

    plain = timm.create_model(IMAGE_TOWER)
    plain.load_state_dict(image_weights())
    pixels = images[:1].float() / 127.5 - 1
    with torch.inference_mode():
        expected = plain.eval().forward_features(pixels)
        torch.testing.assert_close(clip.model.visual.trunk(pixels), expected, atol=1e-3, rtol=1e-3)


def test_bits_of_a_text_do_not_depend_on_its_batch(clip):
    texts = [f"a photo of a {name}" for name in ("dog", "cat", "very long name of a strange animal indeed, truly")] * 5
    together = clip.embed_texts(texts)
    assert torch.equal(clip.embed_texts(texts[2:3]), together[2:3])
    assert torch.equal(together[:3], together[-3:])


def test_a_text_is_nearer_to_its_synonym_than_to_another_text(clip):
    rows = torch.nn.functional.normalize(clip.embed_texts(["a sports car", "a racing automobile", "a bowl of soup"]))
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.2


def test_prototypes_have_unit_rows_and_use_the_description(clip):
    plain = LabelSpace(("cat", "dog"), ("cat", "dog"), ("", ""))
    described = LabelSpace(("cat", "dog"), ("cat", "dog"), ("", "a loyal animal that barks"))
    rows, other = clip.prototypes(plain), clip.prototypes(described)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(2))
    assert torch.equal(rows[0], other[0])
    assert not torch.equal(rows[1], other[1])


def test_prototypes_are_means_of_unit_rows_of_each_class_s_own_prompts(clip):
    """Prompts of any length, in any order: texts are encoded by length, one after the other in their own place."""
    names = ("cat", "a very long name of a strange animal indeed", "dog", "sports car")
    there = LabelSpace(names, names, ("", "", "a loyal animal that barks", ""))
    templates = ("a photo of a {}.", "{}", "a blurred and rather dark picture that shows the {} from behind.")
    expected = []
    for name, description in zip(names, there.descriptions, strict=True):
        prompts = [template.replace("{}", name) for template in templates] + [description] * bool(description)
        units = [torch.nn.functional.normalize(clip.embed_texts([prompt])[0], dim=0) for prompt in prompts]
        expected.append(torch.nn.functional.normalize(sum(units) / len(units), dim=0))
    rows = clip.prototypes(there, templates)
    torch.testing.assert_close(rows, torch.stack(expected), rtol=0, atol=1e-6)
    torch.testing.assert_close(clip.prototypes(there, templates[::-1]), rows, rtol=0, atol=1e-6)
    assert torch.pdist(rows).min() > 0.1
    texts = [template.replace("{}", name) for name in names for template in templates]
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0))
    assert torch.equal(clip.embed_texts([texts[i] for i in order]), clip.embed_texts(texts)[order])


def test_crop_gives_the_input_size_for_any_shape_of_image(clip):
    for size in ((500, 300), (300, 500), (10, 10), (260, 260)):
        assert clip.crop(Image.new("RGB", size, "red")).shape == (3, 260, 260)


def test_the_logit_scale_is_that_of_clip(clip):
    assert clip.logit_scale == pytest.approx(100.0, rel=1e-5)
