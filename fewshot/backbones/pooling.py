"""The last layer of an image tower, which makes one feature of a map of tokens, as a function of its weights."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


class Pooling:
    """Frozen; make one with `ClipBackbone.pooling`. `ClipBackbone.embed_dense` gives the tokens it takes.

    Attributes:
        weights: the pre-trained tensors of the layer by name, float32.
    """

    weights: Mapping[str, Tensor]

    def __call__(self, dense: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """Pool.

        Args:
            dense: [B, T, C] float16 or float32.
            weights: other tensors for some of the names; None takes the pre-trained ones. Differentiable.

        Returns:
            [B, D] float32, raw; with the pre-trained weights exactly what `embed_images` gives, up to rounding.
        """
        raise NotImplementedError
