"""What a file of weights can hold beside weights: pickles that act, modules that act, headers that lie."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Trap:
    """Something that leaves a mark if it is ever run.

    Attributes:
        mark: the file that it would create.
    """

    mark: Path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.mark), "w")

    @property
    def module(self) -> str:
        """Source of a module that leaves the mark when it is imported."""
        return f"open({str(self.mark)!r}, 'w')\n"

    @property
    def sprung(self) -> bool:
        """Whether it was run."""
        return self.mark.exists()


def edited(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def safetensors_bytes(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A safetensors file with any header, and any claim of how long it is."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def lying_headers() -> dict[str, bytes]:
    """Files that claim what they do not have."""
    whole = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    return {
        "a header of exabytes": safetensors_bytes({}, length=2**62),
        "a header longer than the file": safetensors_bytes({}, length=10_000),
        "overlapping tensors": safetensors_bytes({"a": whole, "b": whole}, bytes(8)),
        "a hole between tensors": safetensors_bytes({"a": whole, "b": {**whole, "data_offsets": [16, 24]}}, bytes(24)),
        "a shape that overflows": safetensors_bytes({"a": {**whole, "shape": [2**40, 2**40]}}, bytes(8)),
        "a shape larger than the data": safetensors_bytes({"a": {**whole, "shape": [10**9]}}, bytes(8)),
        "a negative offset": safetensors_bytes({"a": {**whole, "data_offsets": [-8, 0]}}, bytes(8)),
        "a number of no kind": safetensors_bytes({"a": {**whole, "dtype": "OBJECT"}}, bytes(8)),
        "a header nested without end": safetensors_bytes(b'{"a":' + b"[" * 50_000),
        "no JSON": safetensors_bytes(b"\x80\x04cos\nsystem\n"),
        "half a length": b"\x08\x00",
    }
