"""What fixes the last bits of a forward: the device and the type of numbers."""

from __future__ import annotations

import pytest
import torch

from fewshot.backbones.determinism import find_dtype

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("device", "has_bf16", "expected"),
    [(GPU, True, torch.bfloat16), (GPU, False, torch.float32), (CPU, True, torch.float32)],
)
def test_auto_takes_bfloat16_on_gpus_that_compute_in_it(monkeypatch, device, has_bf16, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    assert find_dtype("auto", device) == expected


@pytest.mark.parametrize("device", [CPU, GPU])
def test_a_stated_precision_is_taken_on_every_device(device):
    assert [find_dtype(name, device) for name in ("fp32", "bf16")] == [torch.float32, torch.bfloat16]
