"""Frozen encoders of images and texts. Importing this package loads no torch; loading one does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fewshot.backbones.backbone import Backbone, BackboneRecord
from fewshot.backbones.clip_spec import ClipSpec

if TYPE_CHECKING:
    from fewshot.backbones.clip import ClipBackbone

__all__ = ["Backbone", "BackboneRecord", "ClipBackbone", "ClipSpec", "load_backbone", "load_clip"]


def __getattr__(name: str) -> Any:
    if name in ("load_backbone", "load_clip"):
        from fewshot.backbones import clip_loading

        return getattr(clip_loading, name)
    if name == "ClipBackbone":
        from fewshot.backbones.clip import ClipBackbone

        return ClipBackbone
    raise AttributeError(name)
