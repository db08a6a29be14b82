"""Text towers of every family with random weights, small enough to train through in milliseconds."""

from __future__ import annotations

import functools
import re
from typing import Any
from zlib import crc32

import open_clip
import torch
from torch import Tensor, nn

from fewshot.backbones.text_tower import TextTower

WIDTH = 32
LENGTH = 32
VISION = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
TEXT = {"context_length": LENGTH, "vocab_size": 49408, "width": WIDTH, "heads": 2, "layers": 2}
DECODER = {"context_length": LENGTH, "vocab_size": 49408, "width": WIDTH, "heads": 2, "layers": 1}


@functools.cache
def tiny_tower(dim: int = 16) -> TextTower:
    """CLIP's own layout: a causal tower of width 32 with features of another dimension."""
    return TextTower(*clip(dim))


@functools.cache
def clip(dim: int = 16, *, precision: str = "fp32", **text: Any) -> tuple[nn.Module, Any]:
    dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    model = _frozen(lambda: open_clip.CLIP(dim, VISION, TEXT | text, cast_dtype=dtype))
    if dtype is not None:
        open_clip.model.convert_weights_to_lp(model, dtype=dtype)
    return model, byte_pairs()


@functools.cache
def custom_text(**text: Any) -> tuple[nn.Module, Any]:
    """EVA, PE-Core, ViTamin."""
    return _frozen(lambda: open_clip.CustomTextCLIP(16, VISION, TEXT | text)), byte_pairs()


@functools.cache
def siglip() -> tuple[nn.Module, Any]:
    """Bidirectional, pooled at the last position, projected with a bias, no start token, ended by padding."""
    text = {"no_causal_mask": True, "pool_type": "last", "proj_type": "linear", "proj_bias": True, "vocab_size": 97}
    return custom_text(**text)[0], functools.partial(words, start=[], end=[], padding=1, punctuation=False)


@functools.cache
def coca() -> tuple[nn.Module, Any]:
    text = TEXT | {"embed_cls": True, "output_tokens": True, "context_length": LENGTH - 1}
    vision = VISION | {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    return _frozen(lambda: open_clip.CoCa(16, DECODER, text, vision)), byte_pairs(LENGTH - 1)


@functools.cache
def hugging_face() -> tuple[nn.Module, Any]:
    """The layout of the embedded CLIP: BERT, mean-pooled."""
    from open_clip.hf_model import HFTextEncoder
    from transformers import BertConfig

    sizes = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(vocab_size=97, pad_token_id=0, max_position_embeddings=64, **sizes)

    def make() -> nn.Module:
        model = open_clip.CustomTextCLIP(16, VISION, TEXT)
        model.text = HFTextEncoder("", 16, config=config, pooler_type="mean_pooler", proj_type="linear")
        return model

    return _frozen(make), functools.partial(words, start=[1], end=[2], padding=0, punctuation=True)


def words(texts: list[str], *, start: list[int], end: list[int], padding: int, punctuation: bool) -> Tensor:
    """A token a word, [T, LENGTH]; words longer than four letters have two."""
    rows = []
    for text in texts:
        pieces = re.findall(r"\w{1,4}|[^\w\s]" if punctuation else r"\w{1,4}", text.lower())
        ids = start + [3 + crc32(piece.encode()) % 94 for piece in pieces][: LENGTH - len(start + end)] + end
        rows.append(ids + [padding] * (LENGTH - len(ids)))
    return torch.tensor(rows)


@functools.cache
def byte_pairs(length: int = LENGTH) -> Any:
    return open_clip.SimpleTokenizer(context_length=length)


def _frozen(make: Any) -> nn.Module:
    """With the same weights each time, and larger ones than initialised: the words should matter."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "embedding" in name:
                    parameter.normal_(std=1.0 if "token" in name or "word" in name else 0.3)
    return model.eval().requires_grad_(False)
