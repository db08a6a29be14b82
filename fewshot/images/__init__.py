"""Images: decoding from bytes to RGB, and augmented views."""

from fewshot.images.augmentation import augmented_view
from fewshot.images.decode import decode

__all__ = ["augmented_view", "decode"]
