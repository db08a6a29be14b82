"""The geometric part of open_clip's evaluation transform, from a decoded image to uint8 pixels of the model's size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from open_clip.transform import image_transform_v2
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, Normalize

from fewshot.images.resizing import Picture, TorchCrop

if TYPE_CHECKING:
    from open_clip.transform import PreprocessCfg

Crop = Callable[[Picture], Tensor]
"""Returns [3, H, W] uint8."""


def crop_of(config: PreprocessCfg) -> Crop:
    """Return what brings an image to the input size of a model.

    Args:
        config: open_clip's.
    """
    height, width = config.size if isinstance(config.size, tuple | list) else (config.size, config.size)
    is_squashed = config.resize_mode == "squash"
    if is_squashed or (config.resize_mode == "shortest" and height == width):
        return TorchCrop(height, width, is_squashed, "bilinear" if config.interpolation == "bilinear" else "bicubic")
    steps = image_transform_v2(config, is_train=False).transforms
    return PillowCrop(Compose([step for step in steps if not isinstance(step, Normalize)]))


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
