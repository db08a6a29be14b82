"""Frozen encoders of images and texts. Importing this package loads no torch; `load_clip` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fewshot.backbones.clip_spec import ClipSpec

if TYPE_CHECKING:
    from fewshot.backbones.clip import ClipBackbone

__all__ = ["ClipBackbone", "ClipSpec", "load_clip"]


def __getattr__(name: str) -> Any:
    if name == "load_clip":
        from fewshot.backbones.clip_loading import load_clip

        return load_clip
    if name == "ClipBackbone":
        from fewshot.backbones.clip import ClipBackbone

        return ClipBackbone
    raise AttributeError(name)
