"""Heads that learn from examples which the archive has moved; they extend other methods."""

from fewshot.methods.archive_heads.method import ArchiveLinearProbe, ArchiveNearestMean, ArchiveRla

__all__ = ["ArchiveLinearProbe", "ArchiveNearestMean", "ArchiveRla"]
