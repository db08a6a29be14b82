"""Image towers without text, by their names in timm: DINOv3, DINOv2, supervised networks, and anything else it builds.

Their features are those before the classifier, pooled as timm pools them. They have no text embeddings, so only methods
that need no class names work with them (`MethodInfo.uses_text`).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor, nn

from fewshot.backbones.clip_spec import TIMM_CONFIG, TIMM_WEIGHTS, ClipSpec
from fewshot.backbones.image_crop import Preprocessing
from fewshot.backbones.untrusted_weights import read_config
from fewshot.errors import BackboneError, UnknownNameError

LOGIT_SCALE = 100.0
"""By which similarities of images are multiplied, as CLIP's are; calibration corrects it."""


class ImageTower(nn.Module):
    """A tower of timm with the interface of the image half of an open_clip model.

    Attributes:
        visual: the network.
        dim: D, of its features.
        logit_scale: the logarithm of `LOGIT_SCALE`.
    """

    def __init__(self, visual: nn.Module, input_size: tuple[int, int]) -> None:
        """Wrap a network without a classifier.

        Args:
            visual: [B, 3, H, W] -> [B, D].
            input_size: (H, W).

        Raises:
            BackboneError: its output has another shape.
        """
        super().__init__()
        self.visual = visual.eval().requires_grad_(False)
        with torch.inference_mode():
            features = visual(torch.zeros(1, 3, *input_size))
        if features.ndim != 2:
            raise BackboneError(f"the network returns {list(features.shape)} for one image; expected [1, D]")
        self.dim: int = features.shape[1]
        self.logit_scale = nn.Parameter(torch.tensor(math.log(LOGIT_SCALE)), requires_grad=False)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Return [B, D] features of [B, 3, H, W] normalised pixels."""
        features: Tensor = self.visual(pixels)
        return features


def load_image_tower(spec: ClipSpec) -> tuple[ImageTower, Preprocessing]:
    """Load a tower, and return it with timm's preprocessing.

    Raises:
        UnknownNameError: timm has no such model, or the model has no such weights.
        Exception: whatever timm raises, if weights are missing or damaged.
    """
    visual = _from_folder(spec.timm_folder) if spec.timm_folder else _from_name(spec)
    config = resolve_model_data_config(visual)
    preprocessing = Preprocessing.from_timm(config, create_transform(**config, is_training=False))
    return ImageTower(visual, preprocessing.input_size), preprocessing


def _from_folder(folder: Path) -> nn.Module:
    """Load a folder as `timm.models.save_for_hf` writes it, from safetensors only."""
    read_config(folder / TIMM_CONFIG)
    model: Any = timm.create_model(f"local-dir:{folder.resolve()}", pretrained=False)
    model.load_state_dict(load_file(folder / TIMM_WEIGHTS))
    model.reset_classifier(0)
    network: nn.Module = model
    return network


def _from_name(spec: ClipSpec) -> nn.Module:
    name = spec.timm_name
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise UnknownNameError("timm model", architecture, timm.list_models())
    tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise UnknownNameError(f"weights of timm:{architecture}", tag, tags)
    overlay = {"file": str(Path(spec.pretrained).resolve())} if spec.pretrained else None
    network: nn.Module = timm.create_model(name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay)
    return network
