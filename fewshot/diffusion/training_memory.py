"""The memory that training adapters takes, counted before it starts on tensors without data.

One step of gradient descent is run on fake tensors, which have shapes and no bytes, and the bytes that it would hold at
a time are added up. So the numbers follow the real networks, the sites of the adapters and the precision, whatever the
model; nothing is allocated, and a step at the size of Stable Diffusion takes seconds of one core. What a device adds
(workspaces of kernels, fragments, its context) is left to `USABLE`. Attention is taken to be fused, as it is on GPUs:
written out, its maps would take two thirds of a step at 512 pixels (2.66 GiB a row in place of 0.74).

Gradient checkpointing keeps the inputs of the UNet's blocks alone, and computes the rest a second time. That changes no
bit of an adapter, only time: so it is chosen by the memory there is, while the number of classes in a block, on which
bits depend, never is.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fewshot.diffusion.lora import BlockFilter, LoraPair, Pairs, injected, sites, unet_sites
from fewshot.errors import DataError

if TYPE_CHECKING:
    from fewshot.backbones.diffusion import DiffusionBackbone
    from fewshot.diffusion.adapter_training import AdapterSettings

USABLE = 0.9
"""Share of a device's memory that tensors may take; the rest is for its context, workspaces and fragments."""
BYTES_PER_PARAMETER = 16
"""Of an adapter in training, in float32: its value, its gradient and the two moments of AdamW."""
GIB = 2**30


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """Bytes that one block of classes takes on a device while its adapters are trained.

    Attributes:
        weights: of the frozen networks.
        adapters: of the block, with gradients and moments.
        activations: largest sum of a step's other tensors.
        checkpointed: the same with gradient checkpointing.
    """

    weights: int
    adapters: int
    activations: int
    checkpointed: int

    @property
    def plain_bytes(self) -> int:
        """In total, without gradient checkpointing."""
        return self.weights + self.adapters + self.activations

    @property
    def least_bytes(self) -> int:
        """In total, with gradient checkpointing."""
        return self.weights + self.adapters + min(self.activations, self.checkpointed)


@dataclass(frozen=True, slots=True)
class TrainingShape:
    """What the memory of a step depends on, beside the model.

    Attributes:
        block_size: G classes.
        terms: of a class's loss, each with a prompt of its own: its images and, if there are any, prior images.
        samples: n, of a term.
        rank: r.
        blocks: of the UNet that have adapters.
    """

    block_size: int
    terms: int
    samples: int
    rank: int
    blocks: BlockFilter

    @classmethod
    def from_settings(cls, settings: AdapterSettings, *, block_size: int, with_prior: bool) -> TrainingShape:
        """Return the shape of a training."""
        terms = 2 if with_prior and settings.prior_weight > 0 else 1
        return cls(block_size, terms, settings.samples, settings.rank, settings.blocks)

    @property
    def rows(self) -> int:
        """Rows of a forward of the UNet."""
        return self.block_size * self.terms * self.samples


def count_training_memory(backbone: DiffusionBackbone, shape: TrainingShape) -> TrainingMemory:
    """Count the memory of a step.

    Args:
        backbone: the model; only its configurations, its precision and the size of its weights are used.
        shape: of the step.
    """
    weights = sum(_nbytes(network) for network in (backbone.unet, backbone.text_encoder, backbone.vae))
    with FakeTensorMode() as fake:
        unet = _without_data(lambda: type(backbone.unet).from_config(backbone.unet.config), backbone.dtype)
        text = _without_data(lambda: type(backbone.text_encoder)(backbone.text_encoder.config), backbone.dtype)
        pairs = [_pairs(layers, shape) for layers in (unet_sites(unet, shape.blocks), sites(text))]
    parameters = sum(tensor.numel() for each in pairs for pair in each.values() for tensor in pair)
    of_texts = _text_bytes(fake, text, pairs[1], shape, backbone.tokenizer.model_max_length)
    width = backbone.text_encoder.config.hidden_size
    inputs = ((*backbone.latent_shape,), (backbone.tokenizer.model_max_length, width))
    plain = _unet_bytes(fake, unet, pairs[0], shape, inputs, backbone.dtype)
    unet.enable_gradient_checkpointing()
    least = _unet_bytes(fake, unet, pairs[0], shape, inputs, backbone.dtype)
    return TrainingMemory(weights, BYTES_PER_PARAMETER * parameters, of_texts + plain, of_texts + least)


def choose_checkpointing(memory: TrainingMemory, shape: TrainingShape, available: int | None) -> bool:
    """Return whether a block has to be trained with gradient checkpointing.

    Args:
        memory: that a block takes.
        shape: of its step.
        available: bytes of the device; None for no limit.

    Raises:
        DataError: there is too little memory even so. The message says how many classes would fit.
    """
    if available is None or memory.plain_bytes <= USABLE * available:
        return False
    if memory.least_bytes <= USABLE * available:
        return True
    G, of_class = shape.block_size, (memory.least_bytes - memory.weights) / shape.block_size
    fitting = int((USABLE * available - memory.weights) / of_class)
    fewer = f"Set classes_per_block to {fitting} or less" if fitting >= 1 else "Not even one class fits"
    raise DataError(
        f"training adapters takes {memory.least_bytes / GIB:.1f} GiB with gradient checkpointing for {G} classes in a "
        f"block ({memory.weights / GIB:.1f} GiB of weights, {of_class / GIB:.2f} GiB a class of {shape.rows // G} "
        f"rows), but the device has {available / GIB:.1f} GiB, of which {USABLE:.0%} can be used. {fewer}; bf16, fewer "
        "samples, a lower rank and a smaller image_size take less"
    )


def _nbytes(network: nn.Module | None) -> int:
    return 0 if network is None else sum(p.nbytes for p in (*network.parameters(), *network.buffers()))


def _without_data(make: Callable[[], Any], dtype: torch.dtype) -> Any:
    """Return a frozen network of fake tensors, on the CPU: there attention is fused, on the meta device it is not."""
    with torch.device("meta"):
        network = make().eval()
    for module in network.modules():
        for name, tensor in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(torch.empty(tensor.shape, dtype=dtype), requires_grad=False))
        for name, tensor in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty(tensor.shape, dtype=tensor.dtype))
    return network


def _pairs(layers: Mapping[str, nn.Linear], shape: TrainingShape) -> Pairs:
    G, r = shape.block_size, shape.rank
    return {
        site: LoraPair(
            torch.empty(G, r, layer.in_features, requires_grad=True),
            torch.empty(G, layer.out_features, r, requires_grad=True),
        )
        for site, layer in layers.items()
    }


def _text_bytes(fake: FakeTensorMode, text: Any, pairs: Pairs, shape: TrainingShape, length: int) -> int:
    """Return the bytes that the text encoder's forward leaves for its backward."""
    with _adapted(text, pairs, shape, rows_per_class=shape.terms), fake, _LiveBytes() as live, torch.enable_grad():
        ids = torch.zeros(shape.block_size * shape.terms, length, dtype=torch.int64)
        states = text(ids).last_hidden_state
        kept: int = live.bytes
        del states
    return kept


def _unet_bytes(
    fake: FakeTensorMode,
    unet: Any,
    pairs: Pairs,
    shape: TrainingShape,
    inputs: tuple[tuple[int, ...], tuple[int, ...]],
    dtype: torch.dtype,
) -> int:
    """Return the largest sum of bytes in a forward and backward of the UNet."""
    rows_per_class = shape.terms * shape.samples
    with _adapted(unet, pairs, shape, rows_per_class=rows_per_class), fake, _LiveBytes() as live, torch.enable_grad():
        noisy = torch.empty(shape.rows, *inputs[0], dtype=dtype)
        context = torch.empty(shape.rows, *inputs[1], dtype=dtype, requires_grad=True)
        steps = torch.zeros(shape.rows, dtype=torch.int64)
        out: Tensor = unet(noisy, steps, encoder_hidden_states=context).sample
        out.float().square().mean(dim=(1, 2, 3)).sum().backward()  # type: ignore[no-untyped-call]
        for pair in pairs.values():
            pair.A.grad = pair.B.grad = None
        peak: int = live.peak
    return peak


@contextmanager
def _adapted(model: nn.Module, pairs: Pairs, shape: TrainingShape, *, rows_per_class: int) -> Iterator[None]:
    with injected(model, pairs, rows_per_class=rows_per_class) as set_classes:
        set_classes(torch.arange(shape.block_size).repeat_interleave(rows_per_class))
        yield


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of the tensors that operations make, until each is freed.

    Attributes:
        bytes: of the tensors that live now.
        peak: the largest number so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count the memory of its result."""
        found = func(*args, **(kwargs or {}))
        inputs = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in inputs:
                self._count(leaf.untyped_storage())
        return found

    def _count(self, storage: Any) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.bytes -= size
