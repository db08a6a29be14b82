"""The crop is open_clip's evaluation transform up to one level; of scaled decodings, up to what the scale costs."""

from __future__ import annotations

import pickle
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import open_clip
import pytest
import sklearn.datasets
import torch
from open_clip.pretrained import get_pretrained_cfg
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from fewshot.backbones.image_crop import PillowCrop, Preprocessing, crop_of, pixels_digest
from fewshot.backbones.weight_conventions import PREPROCESSING
from fewshot.errors import BackboneError
from fewshot.images import decode, decode_pixels, side_before_resizing
from fewshot.images.resizing import TorchCrop
from tests.strange_files import encode, photo

PHOTOGRAPHS = sorted((Path(sklearn.datasets.__file__).parent / "images").glob("*.jpg"))
"""Two, of 640 x 427 pixels."""
FITS = [(mode, by) for mode in ("shortest", "squash") for by in ("bicubic", "bilinear")]


def open_clip_crop(config: PreprocessCfg, image: Image.Image) -> np.ndarray:
    """[3, H, W], levels as open_clip's own transform returns them, without its normalisation."""
    transform = open_clip.image_transform(
        config.size,
        is_train=False,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        resize_mode=config.resize_mode,
        interpolation=config.interpolation,
        fill_color=config.fill_color,
    )
    return (transform(image) * 255).round().numpy().astype(np.int16)


def difference(found: torch.Tensor, expected: np.ndarray) -> np.ndarray:
    assert found.dtype == torch.uint8
    assert found.shape == expected.shape
    return np.abs(found.numpy() - expected)


@pytest.mark.parametrize(("mode", "by"), FITS)
@pytest.mark.parametrize(
    ("size", "bound"),
    [
        ((500, 375), 1),
        ((375, 500), 1),
        ((224, 224), 0),
        ((301, 900), 1),
        ((2048, 1536), 1),
        ((100, 60), 2),
        ((31, 450), 2),
    ],
)
def test_a_full_decoding_differs_by_one_level_or_two_if_it_grows(size, bound, mode, by):
    config = PreprocessCfg(size=224, resize_mode=mode, interpolation=by)
    found = crop_of(config)(decode_pixels(encode(photo(*size), "PNG")))
    assert difference(found, open_clip_crop(config, photo(*size))).max() <= bound


@pytest.mark.parametrize(("mode", "name"), [("L", "JPEG"), ("CMYK", "JPEG"), ("P", "PNG"), ("L", "PNG"), ("L", "TIFF")])
def test_every_mode_of_image_differs_by_one_level(mode, name):
    data, config = encode(photo(300, 200).convert(mode), name), PreprocessCfg(size=96)
    image = decode(data) if mode == "CMYK" else Image.open(BytesIO(data)).convert("RGB")
    assert difference(crop_of(config)(decode_pixels(data)), open_clip_crop(config, image)).max() <= 1


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.stem)
@pytest.mark.parametrize(("side", "divisor"), [(224, 1), (106, 2), (80, 2), (53, 4)])
def test_the_cost_of_scaled_decoding_is_bounded(path, side, divisor):
    data, config = path.read_bytes(), PreprocessCfg(size=side)
    pixels = decode_pixels(data, min_side=side_before_resizing(side))
    assert pixels.shape[1] == 640 // divisor
    differences = difference(crop_of(config)(pixels), open_clip_crop(config, Image.open(path)))
    mean, large = (0.01, 0) if divisor == 1 else (2.5, 18)
    assert differences.mean() <= mean
    assert np.quantile(differences, 0.99) <= large


@pytest.mark.parametrize("config", [PreprocessCfg(size=96, resize_mode="longest"), PreprocessCfg(size=(96, 64))])
def test_other_fits_follow_the_steps_of_open_clip(config):
    crop = crop_of(config)
    assert isinstance(crop, PillowCrop)
    for picture in (photo(150, 100), np.array(photo(150, 100))):
        assert difference(crop(picture), open_clip_crop(config, photo(150, 100))).max() == 0


def preprocessing_of_tags() -> list[dict[str, object]]:
    """The different preprocessings of all tags, with the sizes of their models."""
    found = {}
    for name, tag in open_clip.list_pretrained():
        size = open_clip.get_model_config(name)["vision_cfg"]["image_size"]
        values = {key: get_pretrained_cfg(name, tag)[key] for key in PREPROCESSING}
        found[(size, *values.values())] = values | {"size": size}
    return list(found.values())


def test_all_preprocessing_of_tags_is_that_of_open_clip():
    configs = preprocessing_of_tags()
    assert len(configs) > 20
    for config in configs:
        found, expected = Preprocessing.from_open_clip(config), image_transform_v2(PreprocessCfg(**config), False)
        assert found.input_size == (config["size"], config["size"])
        picture = photo(config["size"] + 90, config["size"] + 30)
        mean, std = (torch.tensor(value).view(3, 1, 1) for value in (found.mean, found.std))
        pixels = expected(picture) * std + mean
        assert (found.crop(picture) / 255 - pixels).abs().max() <= 1.01 / 255, config


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": (0.5, 0.5, 0.6)},
        {"std": (0.5, 0.4, 0.5)},
        {"crop": TorchCrop(64, 64, True, "bicubic")},
        {"crop": TorchCrop(64, 64, False, "bilinear")},
        {"crop": TorchCrop(32, 32, False, "bicubic")},
    ],
)
def test_preprocessing_unlike_that_of_open_clip_is_refused(wrong):
    values = {"size": 64, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    found = Preprocessing.from_open_clip(values)
    with pytest.raises(BackboneError, match="prepares images for this model in another way"):
        replace(found, **wrong).check(image_transform_v2(PreprocessCfg(**values), is_train=False))


def test_the_digest_of_preprocessing_follows_crop_and_normalisation():
    values = {"crop": crop_of(PreprocessCfg(size=64)), "mean": (0.5,) * 3, "std": (0.5,) * 3, "input_size": (64, 64)}
    found = pixels_digest(**values)
    assert found == pixels_digest(**values | {"crop": TorchCrop(64, 64, False, "bicubic")})
    others = [
        {"crop": TorchCrop(64, 64, False, "bilinear")},
        {"crop": TorchCrop(64, 64, True, "bicubic")},
        {"mean": (0.5, 0.5, 0.4)},
        {"std": (0.5, 0.5, 0.4)},
    ]
    assert len({found, *(pixels_digest(**values | other) for other in others)}) == 5


def test_pillow_images_and_arrays_give_the_same_pixels():
    crop = crop_of(PreprocessCfg(size=64))
    assert torch.equal(crop(photo(150, 100)), crop(np.array(photo(150, 100))))


def test_the_crop_is_channels_last_and_its_own():
    cropped = crop_of(PreprocessCfg(size=64))(photo(150, 100))
    assert cropped.stride() == (1, 3 * 64, 3)
    assert cropped.untyped_storage().nbytes() == 3 * 64 * 64


@pytest.mark.parametrize("size", [(96, 64), (64, 96)])
def test_an_image_is_squashed_into_a_rectangle(size):
    config = PreprocessCfg(size=size, resize_mode="squash")
    found = crop_of(config)(decode_pixels(encode(photo(300, 200), "PNG")))
    assert difference(found, open_clip_crop(config, photo(300, 200))).max() <= 1
    assert found.stride() == (1, 3 * size[1], 3)


def test_a_crop_travels_to_other_machines():
    crop = crop_of(PreprocessCfg(size=64, resize_mode="squash"))
    assert isinstance(crop, TorchCrop)
    assert pickle.loads(pickle.dumps(crop)) == crop
