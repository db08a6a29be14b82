"""open_clip's evaluation transform, cut where its values are uint8: a crop for the CPU, a normalisation for the device.

The crop is our own, which is faster and the same on every machine; that it is open_clip's is checked for every model
that is loaded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, Normalize

from fewshot.digests import digest
from fewshot.errors import BackboneError
from fewshot.images.resizing import Picture, TorchCrop

Crop = Callable[[Picture], Tensor]
"""Returns [3, H, W] uint8."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What becomes of a decoded image before it reaches a model.

    Attributes:
        crop: decoded image of any size -> [3, H, W] uint8.
        mean, std: the normalisation of its three channels, over values in [0, 1].
        input_size: (H, W), in pixels.
    """

    crop: Crop
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_size: tuple[int, int]

    @classmethod
    def from_open_clip(cls, values: Mapping[str, Any]) -> Self:
        """Return open_clip's evaluation transform.

        Args:
            values: `preprocess_cfg` of an image tower.

        Raises:
            BackboneError: open_clip cannot follow them, or would give other pixels.
        """
        try:
            config = PreprocessCfg(**values)
            transform = image_transform_v2(config, is_train=False)
            normalize = transform.transforms[-1]
            found = cls(crop_of(config), tuple(normalize.mean), tuple(normalize.std), _input_size(config))
            found.check(transform)
        except BackboneError:
            raise
        except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise BackboneError(f"open_clip cannot preprocess images with {dict(values)}: {error!r}"[:500]) from error
        return found

    @classmethod
    def from_timm(cls, config: Mapping[str, Any], transform: Compose) -> Self:
        """Return timm's evaluation transform.

        Args:
            config: what `timm.data.resolve_model_data_config` returns.
            transform: what `timm.data.create_transform` makes of it.

        Raises:
            BackboneError: its pixels would be others.
        """
        channels, height, width = config["input_size"]
        if channels != 3:
            raise BackboneError(f"the network takes images with {channels} channels; expected 3 (RGB)")
        found = cls(_timm_crop(config, transform), tuple(config["mean"]), tuple(config["std"]), (height, width))
        found.check(transform)
        return found

    def check(self, transform: Callable[[Image.Image], Tensor]) -> None:
        """Compare with a transform, on a picture that it shrinks: levels may differ by two, by rounding twice.

        Args:
            transform: a Pillow image to the model's input [3, H, W] float32.

        Raises:
            BackboneError: the results differ.
        """
        height, width = self.input_size
        picture = _waves(3 * height // 2, 2 * width)
        mean, std = (torch.tensor(value).view(3, 1, 1) for value in (self.mean, self.std))
        found, expected = (self.crop(picture) / 255 - mean) / std, transform(Image.fromarray(picture))
        if found.shape != expected.shape or not bool(((found - expected).abs() * std * 255 <= 2.01).all()):
            raise BackboneError(
                "the installed version of open_clip or timm prepares images for this model in another way than this "
                f"package does: {' '.join(str(transform).split())}. Install the versions that the package names."
            )


def pixels_digest(crop: Crop, mean: tuple[float, ...], std: tuple[float, ...], input_size: tuple[int, int]) -> str:
    """Return a digest of what a model sees of a picture; for the arguments, see `Preprocessing`."""
    height, width = input_size
    pixels = crop(_waves(3 * height // 2, 2 * width)).contiguous().numpy().tobytes()
    return digest(json.dumps([mean, std, input_size]).encode() + pixels)


def _waves(height: int, width: int) -> NDArray[np.uint8]:
    """Return a picture [height, width, 3] that another filter, fit or place of the crop would change by many levels."""
    y, x = 0.4 * np.arange(height)[:, None, None], 0.3 * np.arange(width)[:, None]
    waves = np.sin(y + x * np.array([0.5, 1.0, 1.5]) + np.array([0.0, 1.0, 2.0]))
    picture: NDArray[np.uint8] = np.round(100 * waves + 128).astype(np.uint8)
    return picture


def crop_of(config: PreprocessCfg) -> Crop:
    """Return what brings an image to the input size of a model.

    Args:
        config: open_clip's.
    """
    height, width = _input_size(config)
    is_squashed = config.resize_mode == "squash"
    if is_squashed or (config.resize_mode == "shortest" and height == width):
        return TorchCrop(height, width, is_squashed, "bilinear" if config.interpolation == "bilinear" else "bicubic")
    return _without_normalization(image_transform_v2(config, is_train=False))


def _timm_crop(config: Mapping[str, Any], transform: Compose) -> Crop:
    (_, height, width), mode, by = config["input_size"], config["crop_mode"], config["interpolation"]
    resized = math.floor(height / config["crop_pct"])
    is_squashed = mode == "squash" and config["crop_pct"] == 1
    is_central = mode == "center" and height == width <= resized
    if by in ("bicubic", "bilinear") and (is_squashed or is_central):
        return TorchCrop(height, width, is_squashed, by, None if resized == height else resized)
    return _without_normalization(transform)


def _without_normalization(transform: Compose) -> PillowCrop:
    return PillowCrop(Compose([step for step in transform.transforms if not isinstance(step, Normalize)]))


def _input_size(config: PreprocessCfg) -> tuple[int, int]:
    height, width = config.size if isinstance(config.size, tuple | list) else (config.size, config.size)
    return height, width


@dataclass(frozen=True, slots=True)
class PillowCrop:
    """Follows open_clip's own steps, for models whose images are padded or not square: there are hardly any.

    Attributes:
        transform: a Pillow image to values in [0, 1].
    """

    transform: Compose

    def __call__(self, image: Picture) -> Tensor:
        """See `Crop`."""
        values: Tensor = self.transform(image if isinstance(image, Image.Image) else Image.fromarray(image))
        return values.mul(255).round().to(torch.uint8, memory_format=torch.preserve_format)
