"""Weights compute with the activation, and see the pixels, that they were trained with."""

from __future__ import annotations

import logging

import open_clip
import pytest
import torch
from open_clip.pretrained import get_pretrained_cfg
from open_clip.transform import PreprocessCfg, image_transform_v2
from safetensors.torch import save_file

from fewshot.backbones import ClipSpec, load_clip
from fewshot.backbones.weight_conventions import PREPROCESSING, conventions_of_checkpoint, conventions_of_tag
from fewshot.errors import BackboneError
from tests.tiny_clip import TINY

PAIRS = open_clip.list_pretrained()
SILENT = [("roberta-ViT-B-32", "laion2b_s12b_b32k")]
"""Pairs whose name has QuickGELU and whose tag says nothing."""


class RecordedError(Exception):
    """Ends the loading of a model where open_clip would build its networks."""


@pytest.fixture
def built(monkeypatch):
    """The options that open_clip builds networks with, instead of networks; it loads no weights either."""
    options = []

    def record(**given):
        options.append(given)
        raise RecordedError

    for kind in ("CLIP", "CustomTextCLIP", "CoCa"):
        monkeypatch.setattr(open_clip.factory, kind, record)
    monkeypatch.setattr(open_clip.factory, "download_pretrained", lambda *_, **__: "weights.safetensors")
    return options


def load_until_built(name, tag):
    with pytest.raises(BackboneError) as raised:
        load_clip(ClipSpec(model=name, pretrained=tag))
    assert isinstance(raised.value.__cause__, RecordedError)


def test_every_pair_is_built_with_the_activation_of_its_tag(built, caplog):
    for name, tag in PAIRS:
        load_until_built(name, tag)
    found = [bool(options.get("quick_gelu")) for options in built]
    stated = [bool(get_pretrained_cfg(*pair).get("quick_gelu", pair in SILENT)) for pair in PAIRS]
    assert len(PAIRS) == 196
    assert [pair for pair, a, b in zip(PAIRS, found, stated, strict=True) if a != b] == []
    assert caplog.text.count("QuickGELU mismatch") == len(SILENT)


def test_every_pair_has_the_preprocessing_of_its_tag():
    for pair in PAIRS:
        stated = get_pretrained_cfg(*pair)
        assert conventions_of_tag(*pair).preprocessing == {key: stated[key] for key in PREPROCESSING}


def test_a_checkpoint_has_what_all_tags_of_its_name_agree_on():
    for name in {name for name, _ in PAIRS}:
        tags = [conventions_of_tag(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
        found = conventions_of_checkpoint(name)
        if all(tag == tags[0] for tag in tags):
            assert found == tags[0]
        else:
            assert found.assumed
            for key in set(PREPROCESSING) - set(found.assumed):
                assert {found.preprocessing[key]} == {tag.preprocessing[key] for tag in tags}


@pytest.mark.parametrize(
    ("name", "mean", "by", "fit"),
    [
        ("ViT-B-16-SigLIP", 0.5, "bicubic", "squash"),
        ("ViT-SO400M-14-SigLIP2", 0.5, "bicubic", "squash"),
        ("PE-Core-B-16", 0.5, "bilinear", "squash"),
        ("MobileCLIP2-S0", 0.0, "bilinear", "shortest"),
    ],
)
def test_a_checkpoint_of_a_family_is_preprocessed_as_its_tags(name, mean, by, fit):
    found = conventions_of_checkpoint(name)
    assert not found.assumed
    assert found.preprocessing["mean"] == (mean,) * 3
    assert (found.preprocessing["interpolation"], found.preprocessing["resize_mode"]) == (by, fit)


@pytest.fixture
def tiny_name(monkeypatch, tmp_path):
    """Make every name of open_clip one of tiny networks, and return a checkpoint of them."""
    names = ("ViT-B-32", "ViT-B-32-quickgelu", "ViT-B-16-SigLIP", "ViT-S-32")
    given = {name: TINY | ({"quick_gelu": True} if name.endswith("quickgelu") else {}) for name in names}
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", open_clip.factory._MODEL_CONFIGS | given)
    torch.manual_seed(0)
    model = open_clip.CLIP(**TINY)
    checkpoint = tmp_path / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, checkpoint)
    monkeypatch.setattr(open_clip.factory, "download_pretrained", lambda *_, **__: str(checkpoint))
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda _: open_clip.SimpleTokenizer())
    return checkpoint


@pytest.mark.parametrize(("name", "tag", "quick"), [("ViT-B-32", "openai", True), ("ViT-B-32", "laion2b_e16", False)])
def test_features_of_a_tag_are_those_of_its_activation(tiny_name, name, tag, quick):
    clip = load_clip(ClipSpec(model=name, pretrained=tag))
    torch.manual_seed(0)
    expected = open_clip.CLIP(**TINY, quick_gelu=quick).eval()
    images = torch.randint(256, (2, 3, *clip.input_size), dtype=torch.uint8)
    values = image_transform_v2(PreprocessCfg(), is_train=False).transforms[-1](images / 255)
    with torch.inference_mode():
        torch.testing.assert_close(clip.embed_images(images), expected.encode_image(values))
        torch.testing.assert_close(
            clip.embed_texts(["a cat"]), expected.encode_text(open_clip.SimpleTokenizer()(["a cat"]))
        )


def test_a_checkpoint_is_loaded_with_the_preprocessing_of_its_family(tiny_name, caplog):
    clip = load_clip(ClipSpec(model="ViT-B-16-SigLIP", pretrained=str(tiny_name)))
    assert (clip.mean, clip.std, clip.crop.is_squashed) == ((0.5,) * 3, (0.5,) * 3, True)
    assert "assumed" not in caplog.text


@pytest.mark.parametrize(
    ("name", "reason"), [("ViT-B-32", "differ in quick_gelu."), ("ViT-S-32", "nothing is known of quick_gelu, mean")]
)
def test_what_is_assumed_of_a_checkpoint_is_logged(tiny_name, caplog, name, reason):
    load_clip(ClipSpec(model=name, pretrained=str(tiny_name)))
    (record,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert "assumed='GELU, mean 0.4815 0.4578 0.4082" in record.getMessage()
    assert reason in record.getMessage()


def test_nothing_is_assumed_of_a_checkpoint_with_the_activation_in_its_name(tiny_name, caplog):
    clip = load_clip(ClipSpec(model="ViT-B-32-quickgelu", pretrained=str(tiny_name)))
    assert any(isinstance(module, open_clip.transformer.QuickGELU) for module in clip.model.modules())
    assert "assumed" not in caplog.text
