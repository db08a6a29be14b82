"""The number of GPUs of this machine, without loading PyTorch, which takes seconds.

The CUDA driver is asked itself: it knows `CUDA_VISIBLE_DEVICES`, parts of GPUs (MIG) and containers as PyTorch does.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

DRIVER = "libcuda.so.1"


def count_gpus(load: Callable[[str], Any] = ctypes.CDLL) -> int:
    """Return the number of GPUs that PyTorch can use here; 0 where it was built without CUDA.

    Args:
        load: loads the library of the driver; OSError if there is none.
    """
    build = _build()
    if build.get("hip") is not None:
        return _count_with_torch()
    cuda = build.get("cuda")
    if cuda is None:
        return 0
    try:
        driver = load(DRIVER)
    except OSError:
        return 0
    version, count = ctypes.c_int(), ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(version)) or version.value // 1000 < int(cuda.partition(".")[0]):
        return 0  # PyTorch needs a driver of its own major version of CUDA, or a later one.
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def _build() -> dict[str, str]:
    """Return what PyTorch was built for, by name ("cuda", "hip"): its version, from a file that PyTorch has."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return {}
    lines = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    return dict(re.findall(r"^(cuda|hip)\b[^=]*= *['\"]([^'\"]+)['\"]", lines, re.MULTILINE))


def _count_with_torch() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
