"""Decode TIFF: read its directories, recognise the variant, and decode it by Pillow or from its samples."""

from fewshot.images.tiff.decode_tiff import decode_tiff

__all__ = ["decode_tiff"]
