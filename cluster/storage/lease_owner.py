"""The owner of a lease: a process, identified so that others on the same machine can see whether it has died."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from uuid import uuid4


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process.

    Attributes:
        host: name of the machine, for messages.
        pid: process number on the machine.
        machine: boot id of the kernel and its PID namespace (a container has its own); "" where the system has none.
        started: start time of the process in the kernel's ticks; "" where the system does not report it.
        token: a unique random string.
        since: time when the process became the owner, by its own clock; for messages.
    """

    host: str
    pid: int
    machine: str
    started: str
    token: str
    since: str

    @classmethod
    def this_process(cls) -> Self:
        """Return this process as an owner from now on."""
        return cls(
            host=platform.node(),
            pid=os.getpid(),
            machine=_machine_id(),
            started=_start_ticks(os.getpid()) or "",
            token=uuid4().hex,
            since=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read from the values of `to_json`.

        Raises:
            KeyError: a field is missing.
        """
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})

    def to_json(self) -> dict[str, str | int]:
        """Return the fields as JSON values."""
        return asdict(self)

    @property
    def is_dead(self) -> bool:
        """Whether the process has certainly ended: it ran on this machine, and no such process exists now."""
        return bool(self.machine) and self.machine == _machine_id() and _start_ticks(self.pid) != self.started

    def __str__(self) -> str:
        """Return a description for messages."""
        return f"process {self.pid} on {self.host} since {self.since}"


def _machine_id() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _start_ticks(pid: int) -> str | None:
    """Return the start time of a process; None if it does not exist or is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    state, started = fields[0], fields[19]
    return None if state in "ZX" else started
