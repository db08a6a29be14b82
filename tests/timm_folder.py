"""Folders of timm with random networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

SMALL = {"vit_small_patch16_dinov3": {"depth": 1, "embed_dim": 64, "num_heads": 2, "img_size": 64}}
"""Sizes of networks that are large otherwise."""


def write_timm_folder(folder: Path, name: str, **config: Any) -> tuple[nn.Module, Path]:
    """Write a network with a classifier of ten classes as timm does, and return it and the folder.

    Args:
        folder: to be made.
        name: of timm.
        config: of its images.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = SMALL.get(name, {})
        model = timm.create_model(name, num_classes=10, pretrained_cfg_overlay=config, **sizes).eval()
    timm.models.save_for_hf(model, str(folder), model_args=sizes, safe_serialization=True)
    return model, folder
