"""Learned tokens as files that other programs read: one safetensors file a token, from placeholder to vector.

`load_textual_inversion` of diffusers and the user interfaces for Stable Diffusion read this format. Each of many
classes needs a placeholder of its own: two files with one placeholder would silently be one class.
"""

from __future__ import annotations

from collections.abc import Iterable

import safetensors
import safetensors.torch
from torch import Tensor

from fewshot.errors import DataError


def placeholder(label: int) -> str:
    """Return the placeholder of a class's token, which contains no class name."""
    return f"<cls-{label:04d}>"


def token_file(name: str, vector: Tensor) -> bytes:
    """Serialise one token as safetensors.

    Args:
        name: the placeholder.
        vector: [width] float32.
    """
    return safetensors.torch.save({name: vector.detach().cpu().float().contiguous()})


def merged_tokens(files: Iterable[bytes]) -> dict[str, Tensor]:
    """Read the tokens of many files into one mapping from placeholder to vector [width].

    Raises:
        DataError: a placeholder occurs twice, a file is damaged, or vectors of several models are mixed.
    """
    merged: dict[str, Tensor] = {}
    for file in files:
        try:
            tokens = safetensors.torch.load(file)
        except safetensors.SafetensorError as error:
            raise DataError(f"a token file is damaged: {error}") from error
        if twice := sorted(merged.keys() & tokens.keys()):
            raise DataError(f"placeholder {', '.join(twice)} occurs twice; rename one before merging")
        merged |= tokens
    if len(widths := {tuple(vector.shape) for vector in merged.values()}) > 1:
        raise DataError(f"token files are of different models: got vectors of shapes {sorted(widths)}")
    return merged
