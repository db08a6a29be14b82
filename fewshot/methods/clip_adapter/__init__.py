"""CLIP-Adapter: a small network behind the image tower, its output mixed with what went in."""

from fewshot.methods.clip_adapter.method import ClipAdapter, ClipAdapterClassifier

__all__ = ["ClipAdapter", "ClipAdapterClassifier"]
