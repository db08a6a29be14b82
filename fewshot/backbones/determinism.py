"""What fixes the last bits of a feature besides the weights: device, precision, threads, and the rows of a forward.

The arithmetic of a row depends on how many rows share its forward. So a forward always has the same number of rows, and
missing ones are filled up.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fewshot.errors import BackboneError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TEXT_BATCH = 8
"""Texts in one forward, always: missing ones are copies, so that the bits of a text do not depend on the others."""


def find_device(name: str) -> torch.device:
    """Return the device named "auto", "cpu", "cuda" or "cuda:N"; "auto" takes a GPU if there is one.

    Raises:
        BackboneError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise BackboneError(f"device {name!r} is not available: torch finds no GPU; use device = 'auto' or 'cpu'")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise BackboneError(f"unknown device {name!r}; expected 'auto', 'cpu', 'cuda' or 'cuda:N'") from error


def find_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type of numbers of a precision; "auto" takes bfloat16 on a GPU that computes in it, else float32.

    Args:
        precision: "auto", "fp32", "bf16" or "fp16".
        device: of the networks.
    """
    if precision != "auto":
        return DTYPES[precision]
    in_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if in_bf16 else torch.float32


def fix_arithmetic(*, threads: int, tf32: bool = False) -> None:
    """Set this process's number of torch threads, and make cuDNN use deterministic kernels.

    Args:
        threads: CPU threads of a forward.
        tf32: whether float32 products and convolutions on a GPU may use TensorFloat-32; torch's own default is that
            convolutions may and products may not.
    """
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def compute_capability(device: torch.device) -> tuple[int, int] | None:
    """Return the compute capability of a GPU; None for a CPU."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else None


def pad_with_zeros(rows: Tensor, count: int) -> Tensor:
    """Return the rows followed by zeros, [count, ...]."""
    missing = count - len(rows)
    return torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])]) if missing else rows


def pad_with_copies(rows: Tensor, count: int) -> Tensor:
    """Return the rows, at least one, followed by copies of the last one, [count, ...]."""
    return torch.cat([rows, rows[-1:].expand(count - len(rows), *rows.shape[1:])])
