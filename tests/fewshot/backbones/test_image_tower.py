"""Towers of timm give timm's own features, from the image on, and have no text."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file

from fewshot.backbones import ClipSpec, load_clip
from fewshot.backbones.image_tower import ImageTower
from fewshot.classes import LabelSpace
from fewshot.errors import BackboneError, UnknownNameError
from tests.strange_files import photo
from tests.timm_folder import SMALL, write_timm_folder

PREPROCESSING = [
    {},
    {"crop_pct": 0.875, "interpolation": "bilinear"},
    {"crop_pct": 1.0, "crop_mode": "squash"},
    {"crop_mode": "border"},
    {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), "crop_pct": 0.95},
    {"crop_pct": 1.25},
    {"crop_pct": 0.9, "crop_mode": "squash"},
    {"input_size": (3, 160, 96)},
    {"interpolation": "lanczos"},
]


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet", *SMALL])
def test_a_folder_gives_the_features_of_timm(tmp_path, name):
    model, folder = write_timm_folder(tmp_path / name, name)
    clip = load_clip(ClipSpec(model=f"timm:{folder}", batch_size=2))
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features(transform(photo(300, 200))[None]), pre_logits=True)
    found = clip.embed_images(clip.crop(photo(300, 200))[None])
    assert torch.nn.functional.cosine_similarity(found, expected).item() > 0.999
    assert clip.dim == found.shape[1] == expected.shape[1]


@pytest.mark.parametrize("config", PREPROCESSING)
def test_preprocessing_is_that_of_the_configuration(tmp_path, config):
    model, folder = write_timm_folder(tmp_path / "tower", "test_vit", **config)
    clip = load_clip(ClipSpec(model=f"timm:{folder}"))
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (clip.mean, clip.std))
    pixels = transform(photo(300, 200)) * std + mean
    assert (clip.crop(photo(300, 200)) / 255 - pixels).abs().max() <= 1.01 / 255


def test_a_name_takes_a_local_checkpoint_with_or_without_a_classifier(tmp_path):
    model, folder = write_timm_folder(tmp_path / "tower", "test_vit")
    checkpoint = tmp_path / "weights.safetensors"
    save_file(
        {name: each.contiguous() for name, each in model.state_dict().items() if "head.fc" not in name}, checkpoint
    )
    specs = [
        ClipSpec(model="timm:test_vit", pretrained=str(checkpoint)),
        ClipSpec(model="timm:test_vit", pretrained=str(folder / "model.safetensors")),
        ClipSpec(model=f"timm:{folder}"),
    ]
    images = torch.randint(256, (2, 3, *load_clip(specs[0]).input_size), dtype=torch.uint8)
    first, *others = (load_clip(spec).embed_images(images) for spec in specs)
    assert all(torch.equal(first, other) for other in others)
    assert len({str(spec.settled(None).identity()) for spec in specs}) == 3


def test_a_network_of_another_number_of_channels_is_refused(tmp_path):
    _, folder = write_timm_folder(tmp_path / "tower", "test_vit", input_size=(1, 160, 160))
    with pytest.raises(BackboneError, match="takes images with 1 channels; expected 3"):
        load_clip(ClipSpec(model=f"timm:{folder}"))


def test_a_network_that_does_not_pool_is_refused(tmp_path):
    with pytest.raises(BackboneError, match=r"returns \[1, 101, 64\] for one image; expected \[1, D\]"):
        ImageTower(timm.create_model("test_vit", num_classes=0, global_pool=""), (160, 160))


def test_there_is_no_text(tmp_path):
    clip = load_clip(ClipSpec(model=f"timm:{write_timm_folder(tmp_path / 'tower', 'test_vit')[1]}"))
    assert not clip.has_text
    assert clip.logit_scale == pytest.approx(100.0)
    assert clip.prototypes(LabelSpace(("a", "b"), ("a", "b"), ("", ""))).abs().sum() == 0
    with pytest.raises(BackboneError, match="has no text tower"):
        clip.embed_texts(["a"])


@pytest.mark.parametrize(
    ("model", "message"),
    [("timm:test_vitt", "Did you mean 'test_vit'"), ("timm:test_vit.r160_in2k", "Did you mean 'r160_in1k'")],
)
def test_a_misspelled_name_gets_a_suggestion(model, message):
    with pytest.raises(UnknownNameError, match=message):
        load_clip(ClipSpec(model=model))


def test_a_folder_without_weights_in_safetensors_is_refused(tmp_path):
    _, folder = write_timm_folder(tmp_path / "tower", "test_vit")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BackboneError, match=r"has no model\.safetensors"):
        load_clip(ClipSpec(model=f"timm:{folder}"))


def test_weights_of_another_network_are_refused(tmp_path):
    _, folder = write_timm_folder(tmp_path / "tower", "test_vit")
    save_file({"a": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(BackboneError, match="must fit the architecture"):
        load_clip(ClipSpec(model=f"timm:{folder}"))


@pytest.mark.parametrize("pretrained", ["lvd1689m", "weights.pt"])
def test_a_tag_beside_a_name_is_refused_with_its_place(pretrained):
    with pytest.raises(BackboneError, match="a tag follows the name"):
        ClipSpec(model="timm:test_vit", pretrained=pretrained).check()
