"""A pooling layer as a function of tokens and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fewshot.errors import DataError, UnknownNameError


class Pooling:
    """A frozen pooling layer, see `ClipBackbone.pooling`. `ClipBackbone.embed_dense` gives its tokens.

    It computes on the device of its tokens, on any device of the backbone. It is not thread-safe.

    Attributes:
        weights: the pre-trained tensors of the layer by name, float32, on the CPU.
        scopes: names of the parts of the layer that can be trained; "attn" is the attention itself.
    """

    def __init__(self, layer: nn.Module, scopes: Mapping[str, Sequence[str]]) -> None:
        """Copy a layer.

        Args:
            layer: [B, T, C] float32 -> [B, D] float32, a function of its parameters only.
            scopes: by name, the prefixes of the parameters that a scope trains.
        """
        self._layer = deepcopy(layer).to("cpu", torch.float32).eval().requires_grad_(False)
        self._prefixes = {scope: tuple(prefixes) for scope, prefixes in scopes.items()}
        self._copies: dict[torch.device, nn.Module] = {}

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """See the class."""
        return MappingProxyType({name: tensor.detach() for name, tensor in self._layer.named_parameters()})

    @property
    def scopes(self) -> tuple[str, ...]:
        """See the class."""
        return tuple(self._prefixes)

    def trainable(self, scope: str = "attn") -> dict[str, Tensor]:
        """Return the pre-trained tensors that a scope trains, by name.

        Raises:
            UnknownNameError: the layer has no such scope.
        """
        if scope not in self._prefixes:
            raise UnknownNameError("scope of the pooling layer", scope, self._prefixes)
        return {name: tensor for name, tensor in self.weights.items() if name.startswith(self._prefixes[scope])}

    def __call__(self, dense: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """Pool tokens to features, differentiable in `weights`.

        Args:
            dense: [B, T, C] float16 or float32.
            weights: replacements of some tensors by name, on the tokens' device; None uses the pre-trained ones.

        Returns:
            [B, D] float32, raw; with the pre-trained weights the features of `embed_images`, up to rounding.

        Raises:
            DataError: the layer has no tensor of one of the names.
        """
        layer = self._on(dense.device)
        if weights is None:
            pooled: Tensor = layer(dense.float())
            return pooled
        if unknown := sorted(weights.keys() - self.weights.keys()):
            raise DataError(f"the pooling layer has no weights {unknown}; expected names of {sorted(self.weights)}")
        return functional_call(layer, dict(weights), (dense.float(),))  # type: ignore[no-any-return]

    def _on(self, device: torch.device) -> nn.Module:
        if device.type == "cpu":
            return self._layer
        if device not in self._copies:
            self._copies[device] = deepcopy(self._layer).to(device)
        return self._copies[device]
