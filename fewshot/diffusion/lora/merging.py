"""Merge one class's adapter into the weights: forwards then cost nothing extra, but serve this class only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fewshot.diffusion.lora.injection import adapted_layers
from fewshot.diffusion.lora.stacked_lora import LoraPair, Pairs


@contextmanager
def merged(model: nn.Module, pairs: Pairs, class_index: int, *, scale: float = 1.0) -> Iterator[None]:
    """Replace W by W + s · B A of one class while the context lasts.

    The weights are restored from a copy: subtracting the update would leave rounding errors behind. The sum is computed
    in float32, whatever the model's precision.

    Args:
        model: a UNet or a text encoder, on the adapters' device.
        pairs: the adapters of K classes.
        class_index: in [0, K).
        scale: s.

    Raises:
        DataError: an adapter does not fit its layer.
        UnknownNameError: an adapter is for a site that the model does not have.
    """
    layers = adapted_layers(model, pairs)
    kept = {site: layer.weight.detach().clone() for site, layer in layers.items()}
    try:
        for site, layer in layers.items():
            _overwrite(layer.weight, kept[site].float() + scale * _product(pairs[site], class_index))
        yield
    finally:
        for site, layer in layers.items():
            _overwrite(layer.weight, kept[site])


@torch.no_grad()
def _product(pair: LoraPair, class_index: int) -> Tensor:
    """[out, in] float32."""
    return pair.B[class_index].float() @ pair.A[class_index].float()


@torch.no_grad()
def _overwrite(weight: Tensor, value: Tensor) -> None:
    weight.copy_(value)
