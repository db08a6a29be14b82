"""Every kind of CLIP gives open_clip's own features, from the image on, and rows that no batch-mate changes."""

from __future__ import annotations

import logging

import open_clip
import pytest
import torch

from fewshot.backbones import ClipSpec, load_clip
from fewshot.backbones.batch_device import batch_device
from tests.clip_kinds import KINDS
from tests.strange_files import photo


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory):
    return KINDS[request.param].write(tmp_path_factory.mktemp("clip") / "model")


def test_features_are_those_of_open_clip_without_a_warning(folder, caplog):
    caplog.set_level(logging.WARNING)
    clip = load_clip(ClipSpec(model=str(folder), batch_size=2))
    assert caplog.text == ""
    name = f"local-dir:{folder}"
    model, _, transform = open_clip.create_model_and_transforms(name)
    image, texts = photo(300, 200), ["a photo of a cat", "dogs"]
    with torch.inference_mode():
        expected = model.eval().encode_image(transform(image)[None])
        expected_texts = model.encode_text(open_clip.get_tokenizer(name)(texts))
    cosine = torch.nn.functional.cosine_similarity(clip.embed_images(clip.crop(image)[None]), expected)
    assert cosine.item() > 0.999
    torch.testing.assert_close(clip.embed_texts(texts), expected_texts, atol=1e-5, rtol=1e-5)


def test_batches_have_the_shape_of_the_input_and_rows_no_batch_mates(folder):
    clip = load_clip(ClipSpec(model=str(folder), batch_size=3))
    images = torch.stack([clip.crop(photo(90, 70, seed=seed)) for seed in range(2)])
    device = batch_device(clip)
    buffer = device.new_buffer()
    buffer.pixels[:2] = images.numpy()
    ((features, _),) = device.fetch([device.forward(buffer, 2, dense=False)])
    assert torch.equal(features[1:], clip.embed_images(images[1:]))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_scale_of_logits_is_exact_in_half_precision(folder, precision):
    clip = load_clip(ClipSpec(model=str(folder), precision=precision, batch_size=1))
    assert clip.model.logit_scale.dtype == torch.float32
    assert clip.logit_scale == load_clip(ClipSpec(model=str(folder))).logit_scale
