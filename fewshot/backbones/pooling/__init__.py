"""Attention pooling: the last layer of an image tower, from tokens to a feature, as a function of its weights."""

from fewshot.backbones.pooling.pooling_layer import Pooling

__all__ = ["Pooling"]
