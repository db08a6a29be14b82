"""Two models side by side give both features of an image, each of length one, and know what they cannot do."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from fewshot.backbones import ClipSpec, load_backbone, load_clip
from fewshot.backbones.batch_device import batch_device
from fewshot.backbones.clip_spec import SecondTower, spec_of_identity
from fewshot.classes import LabelSpace
from fewshot.errors import BackboneError, UnknownNameError
from tests.clip_kinds import KINDS
from tests.strange_files import photo
from tests.timm_folder import write_timm_folder

SPACE = LabelSpace(("a", "b"), ("ant", "bee"), ("", ""))
PICTURES = [photo(300, 200), photo(60, 90, seed=1), photo(90, 90, seed=2)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """By kind, what `model` names: inputs of 32 x 32, 48 x 32, 160 x 160 and 64 x 64 pixels."""
    folder = tmp_path_factory.mktemp("models")
    clips = {kind: str(KINDS[kind].write(folder / kind)) for kind in ("ViT-B-32", "not square", "SigLIP")}
    _, tower = write_timm_folder(folder / "dinov3", "vit_small_patch16_dinov3")
    return clips | {"DINOv3": f"timm:{tower}"}


def specs(models, first, second, **settings):
    """The pair, and each model alone."""
    alone = [ClipSpec(model=models[kind], batch_size=2, **settings) for kind in (first, second)]
    return replace(alone[0], beside=SecondTower(model=models[second])), *alone


PAIRS = [("ViT-B-32", "DINOv3"), ("DINOv3", "not square"), ("not square", "SigLIP"), ("SigLIP", "ViT-B-32")]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_features_are_both_unit_features_one_after_the_other(models, first, second):
    pair, *alone = (load_backbone(spec) for spec in specs(models, first, second))
    images = torch.stack([pair.crop(picture) for picture in PICTURES])
    assert images.shape[1:] == (3, *pair.input_size)
    parts = [normalize(clip.embed_images(torch.stack([*map(clip.crop, PICTURES)]))) for clip in alone]
    found = pair.embed_images(images)
    torch.testing.assert_close(found, torch.cat(parts, dim=1) / 2**0.5)
    assert found.shape[1] == pair.dim == pair.record.image_dim
    assert pair.longer_side == max(clip.longer_side for clip in alone)


def test_rows_depend_on_no_batch_mate_and_pixels_travel_as_one_image(models):
    pair = load_backbone(specs(models, "not square", "DINOv3")[0])
    images = torch.stack([pair.crop(np.array(picture)) for picture in PICTURES])
    device = batch_device(pair)
    buffer = device.new_buffer()
    buffer.pixels[:2] = images[1:].numpy()
    ((features, _),) = device.fetch([device.forward(buffer, 2, dense=False)])
    assert torch.equal(features, pair.embed_images(images)[1:])


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_text_logits_are_the_mean_of_those_of_the_clips(models, first, second):
    pair, *alone = (load_backbone(spec) for spec in specs(models, first, second))
    images = [torch.stack([clip.crop(picture) for picture in PICTURES]) for clip in (pair, *alone)]
    logits = [
        clip.logit_scale * normalize(clip.embed_images(pixels)) @ clip.prototypes(SPACE).T
        for clip, pixels in zip((pair, *alone), images, strict=True)
    ]
    with_text = [each for each, clip in zip(logits[1:], alone, strict=True) if clip.record.has_text]
    torch.testing.assert_close(logits[0], torch.stack(with_text).mean(dim=0), atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(pair.prototypes(SPACE).norm(dim=1), torch.ones(2))


def test_two_towers_without_text_have_none(models, tmp_path):
    _, other = write_timm_folder(tmp_path / "other", "test_vit")
    spec = ClipSpec(model=models["DINOv3"], beside=SecondTower(model=f"timm:{other}"))
    pair = load_backbone(spec)
    assert not spec.has_text
    assert not pair.record.has_text
    assert pair.logit_scale == pytest.approx(100.0)
    assert pair.prototypes(SPACE).abs().sum() == 0


@pytest.mark.parametrize("part", ["pooling", "text_tower"])
def test_parts_of_one_model_are_refused(models, part):
    pair = load_backbone(specs(models, "ViT-B-32", "DINOv3")[0])
    with pytest.raises(BackboneError, match="two models side by side"):
        getattr(pair, part)
    with pytest.raises(BackboneError, match="dense tokens belong to one image tower"):
        pair.embed_dense(torch.zeros(1, 3, *pair.input_size, dtype=torch.uint8))


def test_the_identity_has_both_models_and_is_read_back(models):
    pair, first, second = specs(models, "ViT-B-32", "DINOv3", precision="fp32")
    identity = pair.identity()
    assert identity == first.identity() | {
        "beside": {"model": second.model, "pretrained": None, "weights": second.identity()["weights"]}
    }
    assert spec_of_identity(json.loads(json.dumps(identity))) == pair
    assert pair.identity() != replace(second, beside=SecondTower(model=first.model)).identity()
    assert "beside" not in first.identity()


def test_both_names_are_checked(models):
    spec = ClipSpec(model=models["ViT-B-32"], beside=SecondTower(model="ViT-B32", pretrained="openai"))
    with pytest.raises(UnknownNameError, match="Did you mean 'ViT-B-32'"):
        spec.check()
    with pytest.raises(ValueError, match="which is the first model already"):
        ClipSpec(beside=SecondTower(model="embedded"))
    with pytest.raises(ValueError, match="has weights of its own"):
        ClipSpec(beside=SecondTower(model=models["DINOv3"], pretrained="openai"))


def test_the_record_is_that_of_both(models):
    pair, first, second = (load_backbone(spec).record for spec in specs(models, "ViT-B-32", "DINOv3"))
    assert (pair.image_dim, pair.has_text, pair.logit_bias) == (first.image_dim + second.image_dim, True, None)
    assert pair.licence == f"unknown and {second.licence}"
    assert len({pair.preprocessing, first.preprocessing, second.preprocessing}) == 3
    assert len({pair.weights, first.weights, second.weights}) == 3


@pytest.mark.parametrize("kind", [*KINDS, "DINOv3"])
def test_the_record_of_one_model_states_what_it_is(models, tmp_path, kind):
    model = models.get(kind) or str(KINDS[kind].write(tmp_path / "clip"))
    spec = ClipSpec(model=model)
    clip = load_clip(spec)
    record = clip.record
    assert asdict(record) == asdict(load_clip(spec).record)
    assert record.has_text == spec.has_text == (kind != "DINOv3")
    assert record.image_dim == clip.embed_images(torch.zeros(1, 3, *clip.input_size, dtype=torch.uint8)).shape[1]
    assert record.logit_bias == (-10.0 if kind == "SigLIP" else None)
    assert record.logit_scale == clip.logit_scale
    assert record.licence == ("dinov3-license" if kind == "DINOv3" else None)
