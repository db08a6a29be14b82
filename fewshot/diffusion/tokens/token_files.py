"""Learned tokens as files that other programs read: one safetensors file a token, from placeholder to vector.

That is what `load_textual_inversion` of diffusers wants, and any user interface for Stable Diffusion. Trained for many
classes, each needs a placeholder of its own: two files of one name would silently be one class.
"""

from __future__ import annotations

from collections.abc import Iterable

import safetensors
import safetensors.torch
from torch import Tensor

from fewshot.errors import DataError


def placeholder(label: int) -> str:
    """The name of a class's token, which says nothing of the class."""
    return f"<cls-{label:04d}>"


def token_file(name: str, vector: Tensor) -> bytes:
    """Serialise.

    Args:
        name: the placeholder.
        vector: [width] float32.
    """
    return safetensors.torch.save({name: vector.detach().cpu().float().contiguous()})


def merged_tokens(files: Iterable[bytes]) -> dict[str, Tensor]:
    """The tokens of many files, placeholder to vector [width].

    Raises:
        DataError: a placeholder comes twice, a file is damaged, or vectors of several models are mixed.
    """
    merged: dict[str, Tensor] = {}
    for file in files:
        try:
            tokens = safetensors.torch.load(file)
        except safetensors.SafetensorError as error:
            raise DataError(f"a file of tokens is damaged: {error}") from error
        if twice := sorted(merged.keys() & tokens.keys()):
            raise DataError(f"placeholder {', '.join(twice)} comes twice; rename one before merging")
        merged |= tokens
    if len(widths := {tuple(vector.shape) for vector in merged.values()}) > 1:
        raise DataError(f"tokens of different models: vectors of shapes {sorted(widths)}")
    return merged
