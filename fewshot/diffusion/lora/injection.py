"""One forward through the adapters of many classes: each row of a batch through its own class's.

The base layers are asked as they are, once for the whole batch; a hook then adds s · B (A x) in place, two batched
products a site. No weight of the base is touched. PEFT has two ways to the same numbers: `set_adapter`, one forward a
class, and `adapter_names`, one small product a class, row group and site.

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
"""Says which class each row of the next forwards belongs to: [B] int64 in [0, K)."""


@contextmanager
def injected(model: nn.Module, pairs: Pairs, *, scale: float = 1.0, rows_per_class: int = 1) -> Iterator[SetClasses]:
    """Let a model's forwards go through adapters, in training and in inference.

    Args:
        model: a UNet or a text encoder, on the adapters' device. When the context ends, it is as before, bit for bit.
        pairs: the adapters of K classes, at some or all of its sites. Computed with in the activations' precision.
        scale: s.
        rows_per_class: n, how many rows in succession always have the same class. They take one product together.

    Yields:
        a function to call before a forward, with the classes of its B rows; they hold until the next call. A forward
        without it, or with another number of rows, raises `DataError`.

    Raises:
        DataError: an adapter does not fit its layer.
        UnknownNameError: an adapter is for a site that the model does not have.
    """
    layers = fitting_layers(model, pairs)
    rows = _Rows(pairs, rows_per_class)
    with ExitStack() as hooks:
        for site, layer in layers.items():
            handle = layer.register_forward_hook(partial(_add_update, pairs[site], rows, scale))
            hooks.callback(handle.remove)
        yield rows.set_classes


def fitting_layers(model: nn.Module, pairs: Pairs) -> dict[str, nn.Linear]:
    """The layers that adapters are for, by site name.

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
            raise DataError(f"{site} maps {expected[0]} to {expected[1]} channels, its adapter {widths}")
    return {site: known[site] for site in pairs}


class _Rows:
    """Which class each row of a forward belongs to."""

    def __init__(self, pairs: Pairs, rows_per_class: int) -> None:
        self._count, _ = count_and_rank(pairs)
        self._device = next(iter(pairs.values())).A.device
        self._rows_per_class = rows_per_class
        self._blocks = torch.empty(0, dtype=torch.int64)
        self._in_order = False

    def set_classes(self, classes: Tensor) -> None:
        """See `SetClasses`.

        Raises:
            DataError: not a class for each row, or not in runs of `rows_per_class`.
        """
        n = self._rows_per_class
        if classes.ndim != 1 or len(classes) == 0 or len(classes) % n:
            raise DataError(f"expected classes of a multiple of {n} rows, got a tensor of shape {list(classes.shape)}")
        runs = classes.cpu().view(-1, n)
        if (runs != runs[:, :1]).any():
            raise DataError(f"expected runs of {n} rows of one class")
        if not 0 <= int(runs.min()) <= int(runs.max()) < self._count:
            raise DataError(f"classes go from 0 to {self._count - 1}, not from {runs.min()} to {runs.max()}")
        self._blocks = runs[:, 0].to(self._device)
        self._in_order = torch.equal(runs[:, 0], torch.arange(self._count))

    def adapters(self, pair: LoraPair, x: Tensor) -> tuple[Tensor, Tensor]:
        """A and B for each run of rows; not copied if all classes come in order."""
        if len(x) != len(self._blocks) * self._rows_per_class:
            said = len(self._blocks) * self._rows_per_class
            raise DataError(f"a forward of {len(x)} rows, where set_classes spoke of {said}")
        if self._in_order:
            return pair.A.to(x.dtype), pair.B.to(x.dtype)
        return pair.A.index_select(0, self._blocks).to(x.dtype), pair.B.index_select(0, self._blocks).to(x.dtype)


def _add_update(pair: LoraPair, rows: _Rows, scale: float, _: nn.Module, inputs: tuple[Any, ...], y: Tensor) -> None:
    """Of a linear layer's input [B, L, in] and output [B, L, out], which is changed in place."""
    x: Tensor = inputs[0]
    A, B = rows.adapters(pair, x)
    low = torch.bmm(x.reshape(len(A), -1, x.shape[-1]), A.mT)
    y.view(len(A), -1, y.shape[-1]).baddbmm_(low, B.mT, alpha=scale)
