"""Images: from bytes to RGB, and augmented views of them."""

from fewshot.images.decode import decode
from fewshot.images.views import augmented_view

__all__ = ["augmented_view", "decode"]
