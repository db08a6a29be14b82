"""The GPUs of this machine, found without importing torch, which takes seconds."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MAJOR, MINOR = 75, 76
"""Numbers of the attributes of the compute capability, see CUdevice_attribute."""


@dataclass(frozen=True, slots=True)
class LocalGpus:
    """GPUs that torch can use here.

    Attributes:
        count: their number.
        capability: compute capability of the least capable one; None without any.
    """

    count: int = 0
    capability: tuple[int, int] | None = None


@lru_cache(maxsize=1)
def local_gpus() -> LocalGpus:
    """Return the GPUs of this machine; none if its driver is too old for the installed torch."""
    cuda, rocm = torch_platform()
    if rocm:
        return _torch_gpus()
    driver = _load_driver()
    return LocalGpus() if cuda is None or driver is None else driver_gpus(driver, least_version=cuda)


def torch_platform() -> tuple[int | None, bool]:
    """Return the major version of the CUDA that torch was built for, None for another, and whether it is for ROCm."""
    package = find_spec("torch")
    if package is None or package.origin is None:
        return None, False
    text = (Path(package.origin).parent / "version.py").read_text()
    cuda, rocm = (re.search(rf"^{name}\b.*= '(\d+)\.", text, re.M) for name in ("cuda", "hip"))
    return None if cuda is None else int(cuda[1]), rocm is not None


def driver_gpus(driver: Any, *, least_version: int) -> LocalGpus:
    """Ask NVIDIA's driver for its GPUs; the variable CUDA_VISIBLE_DEVICES hides some of them.

    Args:
        driver: the library libcuda.
        least_version: major version of CUDA that the driver must support.
    """
    version, count = ctypes.c_int(), ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(version)) or version.value < 1000 * least_version:
        return LocalGpus()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return LocalGpus()
    return LocalGpus(count.value, min(_capability(driver, index) for index in range(count.value)))


def _capability(driver: Any, index: int) -> tuple[int, int]:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetAttribute(ctypes.byref(major), MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), MINOR, device)
    return major.value, minor.value


def _load_driver() -> Any:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def _torch_gpus() -> LocalGpus:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return LocalGpus(count, min((torch.cuda.get_device_capability(each) for each in range(count)), default=None))
