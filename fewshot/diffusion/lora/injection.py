"""Run one forward through the adapters of many classes, each row of a batch through those of its own class.

The base layers run once for the whole batch; a hook then adds s · B (A x) in place, two batched products a site. No
weight of the base changes. PEFT has two ways to the same numbers: `set_adapter`, one forward a class, and
`adapter_names`, one small product a class, row group and site.

Which products are taken depends on `rows_per_class` alone and never on which classes a batch happens to hold: products
of other shapes may round differently, and a row's bits must not depend on its batch-mates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fewshot.diffusion.lora.sites import sites
from fewshot.diffusion.lora.stacked_lora import LoraPair, Pairs, count_and_rank
from fewshot.errors import DataError, UnknownNameError

SetClasses = Callable[[Tensor], None]
"""Sets the class of each row of the next forwards: [B] int64 in [0, K)."""


@contextmanager
def injected(model: nn.Module, pairs: Pairs, *, scale: float = 1.0, rows_per_class: int = 1) -> Iterator[SetClasses]:
    """Add adapters to a model's forwards while the context lasts, in training and in inference.

    Args:
        model: a UNet or a text encoder, on the adapters' device. After the context it is as before, bit for bit.
        pairs: the adapters of K classes, at some or all of its sites; cast to the activations' precision.
        scale: s.
        rows_per_class: n, the number of successive rows that always have the same class. They share one product.

    Yields:
        A function to call before a forward with the classes of its B rows, which hold until the next call. A forward
        without it, or with another number of rows, raises `DataError`.

    Raises:
        DataError: an adapter does not fit its layer.
        UnknownNameError: an adapter is for a site that the model does not have.
    """
    layers = adapted_layers(model, pairs)
    rows = _RowClasses(pairs, rows_per_class)
    with ExitStack() as hooks:
        for site, layer in layers.items():
            handle = layer.register_forward_hook(partial(_add_update, pairs[site], rows, scale))
            hooks.callback(handle.remove)
        yield rows.set_classes


def adapted_layers(model: nn.Module, pairs: Pairs) -> dict[str, nn.Linear]:
    """Return the layers that have adapters, by site name.

    Raises:
        DataError: an adapter does not fit its layer.
        UnknownNameError: the model has no such site.
    """
    known = sites(model)
    for site, pair in pairs.items():
        if site not in known:
            raise UnknownNameError("adapter site", site, known)
        expected = known[site].in_features, known[site].out_features
        if (pair.A.shape[-1], pair.B.shape[-2]) != expected:
            widths = f"{pair.A.shape[-1]} to {pair.B.shape[-2]}"
            raise DataError(f"{site} maps {expected[0]} to {expected[1]} channels, but its adapter {widths}")
    return {site: known[site] for site in pairs}


class _RowClasses:
    """The class of each row of a forward."""

    def __init__(self, pairs: Pairs, rows_per_class: int) -> None:
        self._count, _ = count_and_rank(pairs)
        self._device = next(iter(pairs.values())).A.device
        self._rows_per_class = rows_per_class
        self._blocks = torch.empty(0, dtype=torch.int64)
        self._in_order = False

    def set_classes(self, classes: Tensor) -> None:
        """See `SetClasses`.

        Raises:
            DataError: the classes do not come in runs of `rows_per_class`, or are out of range.
        """
        n = self._rows_per_class
        if classes.ndim != 1 or len(classes) == 0 or len(classes) % n:
            raise DataError(f"expected classes of a multiple of {n} rows, got a tensor of shape {list(classes.shape)}")
        runs = classes.cpu().view(-1, n)
        if (runs != runs[:, :1]).any():
            raise DataError(f"expected runs of {n} rows of one class")
        if not 0 <= int(runs.min()) <= int(runs.max()) < self._count:
            raise DataError(f"expected classes from 0 to {self._count - 1}, got {runs.min()} to {runs.max()}")
        self._blocks = runs[:, 0].to(self._device)
        self._in_order = torch.equal(runs[:, 0], torch.arange(self._count))

    def adapters(self, pair: LoraPair, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return A and B of each run of rows; without a copy if all classes come in order.

        Raises:
            DataError: the forward has another number of rows than there are classes.
        """
        if len(x) != (expected := len(self._blocks) * self._rows_per_class):
            raise DataError(f"a forward has {len(x)} rows, but set_classes was called for {expected}")
        if self._in_order:
            return pair.A.to(x.dtype), pair.B.to(x.dtype)
        return pair.A.index_select(0, self._blocks).to(x.dtype), pair.B.index_select(0, self._blocks).to(x.dtype)


def _add_update(
    pair: LoraPair, rows: _RowClasses, scale: float, _: nn.Module, inputs: tuple[Any, ...], y: Tensor
) -> None:
    """Add the adapters' update to a linear layer's output [B, L, out], in place, from its input [B, L, in]."""
    x: Tensor = inputs[0]
    A, B = rows.adapters(pair, x)
    low = torch.bmm(x.reshape(len(A), -1, x.shape[-1]), A.mT)
    y.view(len(A), -1, y.shape[-1]).baddbmm_(low, B.mT, alpha=scale)
