"""Where and with how many bits a backbone computes, and what fixes the last of them."""

from __future__ import annotations

import torch

from fewshot.errors import BackboneError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def device_named(name: str) -> torch.device:
    """The device of "auto", "cpu", "cuda" or "cuda:N"; "auto" takes a GPU if there is one.

    Raises:
        BackboneError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise BackboneError(f"device {name!r} was asked for, but torch sees no GPU; use device = 'auto' or 'cpu'")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise BackboneError(f"unknown device {name!r}; expected 'auto', 'cpu', 'cuda' or 'cuda:N'") from error


def fix_arithmetic(*, threads: int) -> None:
    """Set this process's number of torch threads, and ask cuDNN for deterministic kernels."""
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
