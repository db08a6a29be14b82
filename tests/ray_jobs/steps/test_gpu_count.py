"""GPUs are counted by the driver, without loading PyTorch."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from ray_jobs.steps import gpu_count
from ray_jobs.steps.gpu_count import DRIVER, count_gpus


def driver(*, version=13020, count=4, init=0):
    """A pretended library of the CUDA driver."""

    def give(value):
        def function(place):
            place._obj.value = value
            return 0

        return function

    library = {"cuDriverGetVersion": give(version), "cuDeviceGetCount": give(count), "cuInit": lambda flags: init}

    def load(name):
        assert name == DRIVER
        return SimpleNamespace(**library)

    return load


def missing(name):
    raise OSError(f"{name}: cannot open shared object file")


def test_the_count_is_that_of_torch():
    assert count_gpus() == (torch.cuda.device_count() if torch.cuda.is_available() else 0)
    found = {name: version for name in ("cuda", "hip") if (version := getattr(torch.version, name)) is not None}
    assert gpu_count._build() == found


@pytest.mark.parametrize(
    ("build", "load", "expected"),
    [
        ({"cuda": "12.8"}, driver(count=4), 4),
        ({"cuda": "13.2"}, driver(version=13000, count=2), 2),
        ({"cuda": "13.2"}, driver(version=12080), 0),
        ({"cuda": "12.8"}, driver(init=100), 0),
        ({"cuda": "12.8"}, missing, 0),
        ({}, driver(), 0),
    ],
)
def test_gpus_count_where_driver_and_torch_fit(monkeypatch, build, load, expected):
    monkeypatch.setattr(gpu_count, "_build", lambda: build)
    assert count_gpus(load) == expected


def test_amd_gpus_are_counted_by_torch(monkeypatch):
    monkeypatch.setattr(gpu_count, "_build", lambda: {"hip": "6.4"})
    monkeypatch.setattr(gpu_count, "_count_with_torch", lambda: 3)
    assert count_gpus(missing) == 3


def test_counting_loads_no_torch():
    program = "import sys; from ray_jobs.steps.gpu_count import count_gpus; count_gpus(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
