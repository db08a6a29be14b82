"""TIFF: its directories, its variants, and the decoding of each variant by what can be trusted with it."""

from fewshot.images.tiff.decode_tiff import decode_tiff

__all__ = ["decode_tiff"]
