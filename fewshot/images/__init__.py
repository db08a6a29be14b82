"""Images: decoding from bytes to RGB, resizing, and augmented views.

`resizing` and `augmentation` import torch; the rest does without.
"""

from fewshot.images.decode import decode, decode_pixels, side_before_resizing

__all__ = ["decode", "decode_pixels", "side_before_resizing"]
