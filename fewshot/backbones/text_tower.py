"""The text tower of a CLIP with a door for context vectors: token embeddings in, text features out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Prompts:
    """K token sequences with room for context vectors.

    Attributes:
        ids: [K, L] int64, placeholders where context goes; L is the same for all and no longer than needed where
            cutting is exact.
        slots: [K, M] int64, positions of the context vectors in each sequence.
    """

    ids: Tensor
    slots: Tensor


class TextTower:
    """Frozen; make one with `ClipBackbone.text_tower`.

    Attributes:
        width: w, of token embeddings.
        dim: D, of text features.
    """

    width: int
    dim: int

    def prompts(self, names: Sequence[str], *, context: int) -> Prompts:
        """Sequences "[context] {name}.", one a name.

        Args:
            names: K names as people say them.
            context: M >= 0 slots in front of the name.

        Raises:
            DataError: context and name do not fit into the tower's length.
        """
        raise NotImplementedError

    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings [..., L, w] float32 of ids [..., L]."""
        raise NotImplementedError

    def encode(self, prompts: Prompts, context: Tensor) -> Tensor:
        """Text features with the context in place, differentiable in it.

        Args:
            prompts: K sequences.
            context: [M, w] the same for all, or [K, M, w] one for each; float32.

        Returns:
            [K, D] float32, raw (not normalised). A row does not depend on the other sequences.
        """
        raise NotImplementedError
