"""CUDA without a GPU: fake tensors on the device "cuda", streams that note what is asked of them, and a record of all
operations between the host and the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

COPIES = frozenset({"copy_", "_to_copy", "to"})
"""Operations that copy; in inference mode `to` is one of them."""


class Stream:
    """Notes, in a log that all streams share, what is recorded and waited for on it."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def wait_event(self, event: Event) -> None:
        self.log.append(f"{self.name} waits for {event.name}")


class Event:
    def __init__(self, log: list[str]) -> None:
        self.log, self.name = log, "nothing"

    def record(self, stream: Stream) -> None:
        self.name = f"event {len(self.log)}"
        self.log.append(f"{stream.name} records {self.name}")

    def synchronize(self) -> None:
        self.log.append(f"the host waits for {self.name}")

    def elapsed_time(self, end: Event) -> float:
        return 250.0


class Traffic(TorchDispatchMode):
    """Adds operations to a log that have tensors on the host and on the device, such as copies."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.log, self.stream = log, ""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        sources, targets = devices((args, kwargs)), devices(result)
        name = function.overloadpacket.__name__
        if {"cpu", "cuda"} <= sources | targets and name in COPIES:
            is_async = kwargs.get("non_blocking") or (name == "copy_" and args[2:3] == (True,))
            self.log.append(f"copy to {'/'.join(targets)}{self.stream}{'' if is_async else ', the host waits'}")
        elif {"cpu", "cuda"} <= sources | targets:
            self.log.append(f"{name} on {sorted(sources)}")
        return result


def devices(values: Any) -> set[str]:
    """The kinds of devices of the tensors with dimensions; numbers as tensors may be anywhere."""
    return {leaf.device.type for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor) and leaf.ndim}


@contextmanager
def pretended_cuda(monkeypatch: Any) -> Iterator[list[str]]:
    """Yield the log of all streams and operations in the context."""
    log: list[str] = []
    traffic = Traffic(log)
    current = Stream("compute", log)
    names = iter(("uploads", "fetches"))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream(next(names), log))
    monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing=False: Event(log))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        traffic.stream = f" on {stream.name}"
        try:
            yield
        finally:
            traffic.stream = ""

    monkeypatch.setattr(torch.cuda, "stream", on)
    with FakeTensorMode(), traffic:
        yield log


def with_fake_weights(model: Any, dtype: torch.dtype) -> Any:
    """Return a model whose tensors are fake and on the GPU; only for the context of `pretended_cuda`."""
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            fake = torch.empty(weight.shape, dtype=dtype, device="cuda")
            module._parameters[name] = torch.nn.Parameter(fake, requires_grad=False)
        for name, buffer in list(module.named_buffers(recurse=False)):
            kind = dtype if buffer.is_floating_point() else buffer.dtype
            module._buffers[name] = torch.empty(buffer.shape, dtype=kind, device="cuda")
    return model
