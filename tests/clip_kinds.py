"""Folders with random CLIPs of the kinds that open_clip builds, small enough to embed a picture in milliseconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch import nn

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}
OPENAI = {"mean": list(open_clip.OPENAI_DATASET_MEAN), "std": list(open_clip.OPENAI_DATASET_STD)}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of CLIP.

    Attributes:
        build: open_clip's class.
        config: of the model.
        preprocessing: of its images.
        has_tokenizer: whether its tokenizer is in the folder; otherwise it is OpenAI's.
    """

    build: Callable[..., nn.Module]
    config: dict[str, Any]
    preprocessing: dict[str, Any]
    has_tokenizer: bool = False

    def write(self, folder: Path) -> Path:
        """Write it as the folder that open_clip's `push_to_hub` would."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = self.build(**{name: value for name, value in self.config.items() if name != "custom_text"})
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}
        save_file(weights, folder / "open_clip_model.safetensors")
        config = {"model_cfg": self.config, "preprocess_cfg": self.preprocessing}
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        if self.has_tokenizer:
            _write_tokenizer(folder)
        return folder


def _timm(name: str, pool: str, projection: str | None, size: int) -> dict[str, Any]:
    return {"timm_model_name": name, "timm_pool": pool, "timm_proj": projection, "image_size": size}


KINDS = {
    "ViT-B-32": Kind(
        open_clip.CLIP, {"embed_dim": 32, "quick_gelu": True, "vision_cfg": VIT, "text_cfg": TEXT}, OPENAI
    ),
    "RN50": Kind(
        open_clip.CLIP,
        {
            "embed_dim": 32,
            "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
            "text_cfg": TEXT,
        },
        OPENAI,
    ),
    "SigLIP": Kind(
        open_clip.CustomTextCLIP,
        {
            "embed_dim": 64,
            "init_logit_bias": -10,
            "custom_text": True,
            "vision_cfg": _timm("test_vit", "map", "none", 160),
            "text_cfg": TEXT
            | {
                "context_length": 16,
                "vocab_size": 97,
                "hf_tokenizer_name": "anywhere",
                "tokenizer_kwargs": {"clean": "canonicalize"},
                "no_causal_mask": True,
                "proj_bias": True,
                "pool_type": "last",
            },
        },
        HALF | {"resize_mode": "squash", "interpolation": "bicubic"},
        has_tokenizer=True,
    ),
    "CoCa": Kind(
        open_clip.CoCa,
        {
            "embed_dim": 32,
            "custom_text": True,
            "vision_cfg": VIT | {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
            "text_cfg": TEXT | {"context_length": 76, "embed_cls": True, "output_tokens": True},
            "multimodal_cfg": TEXT | {"context_length": 76, "attn_pooler_heads": 2},
        },
        OPENAI,
    ),
    "PE-Core": Kind(
        open_clip.CustomTextCLIP,
        {
            "embed_dim": 32,
            "custom_text": True,
            "vision_cfg": _timm("test_vit", "map", None, 160),
            "text_cfg": TEXT | {"context_length": 32},
        },
        HALF | {"resize_mode": "squash", "interpolation": "bilinear"},
    ),
    "MobileCLIP2": Kind(
        open_clip.CustomTextCLIP,
        {
            "embed_dim": 32,
            "custom_text": True,
            "vision_cfg": _timm("test_convnext", "avg", None, 64),
            "text_cfg": TEXT | {"no_causal_mask": True},
        },
        {"mean": [0.0] * 3, "std": [1.0] * 3, "interpolation": "bilinear"},
    ),
    "padded": Kind(
        open_clip.CLIP,
        {"embed_dim": 32, "vision_cfg": VIT, "text_cfg": TEXT},
        OPENAI | {"resize_mode": "longest", "fill_color": 7},
    ),
    "not square": Kind(
        open_clip.CLIP, {"embed_dim": 32, "vision_cfg": VIT | {"image_size": [48, 32]}, "text_cfg": TEXT}, OPENAI
    ),
}


def _write_tokenizer(folder: Path) -> None:
    """Write a tokenizer of single letters, ended by padding."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<unk>": 0, "<pad>": 1} | {chr(ord("a") + letter): 2 + letter for letter in range(26)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\S"), "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>").save_pretrained(folder)
