"""The last layer of an image tower, which makes one feature of a map of tokens, as a function of its weights."""

from fewshot.backbones.pooling.pooling_layer import Pooling

__all__ = ["Pooling"]
