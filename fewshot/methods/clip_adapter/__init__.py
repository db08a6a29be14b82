"""CLIP-Adapter: a small network behind the image tower, its output blended with its input."""

from fewshot.methods.clip_adapter.method import ClipAdapter, ClipAdapterClassifier

__all__ = ["ClipAdapter", "ClipAdapterClassifier"]
