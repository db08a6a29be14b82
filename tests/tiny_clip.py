"""A CLIP of open_clip's own shape with random weights, small enough to embed a picture in a millisecond."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

IMAGE_SIZE = 32
TINY: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": IMAGE_SIZE, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}


def write_tiny_clip(folder: Path, **changes: Any) -> Path:
    """Write it as the folder that open_clip's `push_to_hub` would.

    Args:
        folder: where to.
        changes: of its configuration, e.g. `vision_cfg` of another tower.
    """
    import open_clip
    import torch
    from safetensors.torch import save_file

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.CLIP(**TINY | changes)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    size = (TINY | changes)["vision_cfg"]["image_size"]
    preprocess = {"size": size, "mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic"}
    config = {"model_cfg": TINY | changes, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder
