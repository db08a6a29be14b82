"""Small real steps. Workers of Ray import this module, so it stays free of tests and of Ray."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from cluster import Part, StorageError, Unit, WorkerBrokenError


def touch(folder: Path) -> None:
    """Add a mark to a folder; marks can be counted across processes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / uuid4().hex).touch()


def marks(folder: Path) -> int:
    return len(list(folder.iterdir())) if folder.exists() else 0


def is_first(mark: Path) -> bool:
    """Return True for the first call with this mark, in all threads and processes, and False for every other one."""
    mark.parent.mkdir(parents=True, exist_ok=True)
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def units(count: int, *, folder: str = "out", kind: str = "plain") -> list[Unit]:
    return [Unit(f"{folder}/{index:04}.bin", {"index": index, "kind": kind}, weight=10) for index in range(count)]


@dataclass(frozen=True)
class Square:
    """Squares the index. The kind in a unit's payload names what else the unit does; `scratch` has the marks."""

    scratch: Path
    name: str = "square"

    def setup(self) -> int:
        touch(self.scratch / "setups")
        return os.getpid()

    def run(self, state: int, payload: Any) -> Part:
        index, kind = payload["index"], payload["kind"]
        touch(self.scratch / "runs" / str(index))
        runs = marks(self.scratch / "runs" / str(index))
        if kind == "raises":
            raise ValueError(f"no square of {index}")
        if kind == "kills its worker" or (kind == "is killed once" and runs == 1):
            time.sleep(0.3)  # Time for a second unit to be started beside this one.
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "breaks its worker" or (kind == "breaks a worker once" and runs == 1):
            raise WorkerBrokenError("the GPU is lost")
        if kind == "storage recovers" and runs < 3:
            raise StorageError("storage is slow")
        if kind == "storage stays down":
            raise StorageError("storage is down")
        if kind == "slow":
            time.sleep(0.5)
        return Part(str(index * index).encode() * 100, {"images": 10, "pid": state})


class Panic(BaseException):
    """An exception of a library written in Rust, which is no `Exception`."""


class MuteError(Exception):
    """An exception whose message cannot be read."""

    def __str__(self) -> str:
        raise RuntimeError("the message cannot be read")


@dataclass(frozen=True)
class Raising:
    """Raises the exception that the payload names."""

    def setup(self) -> None:
        return None

    def run(self, state: None, payload: Any) -> Part:
        errors: dict[str, BaseException] = {
            "exits": SystemExit(0),
            "panics": Panic("in native code"),
            "is interrupted": KeyboardInterrupt(),
            "is mute": MuteError(),
            "talks": ValueError("several\nlines\x1b of " + "noise" * 10**6 + "\nwith the reason last"),
            "is no Unicode": ValueError("a name that ends in \udcff"),
        }
        if payload in errors:
            raise errors[payload]
        return Part(b"")


@dataclass(frozen=True)
class BrokenSetup:
    """Fails in `setup`."""

    kills: bool = False

    def setup(self) -> None:
        if self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        raise FileNotFoundError("no weights at models/clip.safetensors")

    def run(self, state: None, payload: Any) -> Part:
        raise AssertionError("a unit ran although setup failed")


@dataclass(frozen=True)
class Device:
    """Uses the only device of its worker for a while. A payload is (name, seconds, seconds of later runs)."""

    scratch: Path

    def setup(self) -> threading.Lock:
        return threading.Lock()

    def run(self, state: threading.Lock, payload: Any) -> Part:
        name, first_s, again_s = payload
        with state:
            touch(self.scratch / str(name))
            time.sleep(first_s if marks(self.scratch / str(name)) == 1 else again_s)
        return Part(b"")


@dataclass(frozen=True)
class NoOp:
    """Does nothing, so that only the overhead of the executor is measured."""

    def setup(self) -> None:
        return None

    def run(self, state: None, payload: Any) -> Part:
        return Part(b"")


def located_units(count: int, *, folder: str = "out") -> list[Unit]:
    return [Unit(f"{folder}/{index:04}.bin", index) for index in range(count)]


@dataclass(frozen=True)
class Located:
    """Takes half a second, and writes the name of its node, if it has one, to `scratch`."""

    scratch: Path

    def setup(self) -> Path:
        touch(self.scratch / "setups")
        return self.scratch / "nodes" / _node_name()

    def run(self, state: Path, payload: Any) -> Part:
        touch(self.scratch / "runs" / str(payload))
        touch(state)
        time.sleep(0.5)
        return Part(str(payload).encode() * 100)


@dataclass(frozen=True)
class SplitSquare:
    """Squares an index in two parts, each of which writes the name of its node.

    The first part takes `work_s` of a CPU, the second uses the worker's only device for `device_s`. The result of the
    first is too large for Ray to keep it with the driver: it is stored on the helper's node, and lost with it.
    """

    scratch: Path
    work_s: float = 0.0
    device_s: float = 0.0

    def setup(self) -> threading.Lock:
        return threading.Lock()

    def tools(self, state: threading.Lock) -> int:
        return 3

    def prepare(self, tools: int, payload: Any) -> np.ndarray:
        index, kind = payload["index"], payload["kind"]
        touch(self.scratch / "prepared" / _node_name())
        if kind == "raises":
            raise ValueError(f"no square of {index}")
        if kind == "kills the first helper" and _node_name() == "b" and is_first(self.scratch / "killed a helper"):
            os.kill(os.getpid(), signal.SIGKILL)
        end = time.thread_time() + self.work_s
        while time.thread_time() < end:
            pass
        return np.full(20_000, tools * index)

    def run(self, state: threading.Lock, payload: Any) -> Part:
        return self.run_prepared(state, payload, self.prepare(self.tools(state), payload))

    def run_prepared(self, state: threading.Lock, payload: Any, prepared: np.ndarray) -> Part:
        touch(self.scratch / "nodes" / _node_name())
        with state:
            time.sleep(self.device_s)
        return Part((prepared // 3 * payload["index"]).tobytes(), {"from elsewhere": not prepared.flags.writeable})


@dataclass(frozen=True)
class DiesInTools(SplitSquare):
    """The first worker dies in `tools`."""

    def tools(self, state: threading.Lock) -> int:
        if is_first(self.scratch / "tools called"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().tools(state)


def _node_name() -> str:
    import ray

    if not ray.is_initialized():
        return "none"
    here = ray.get_runtime_context().get_node_id()
    return next(node["Labels"].get("name", "none") for node in ray.nodes() if node["NodeID"] == here)
