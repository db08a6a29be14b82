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
            TypeError, ValueError: a field has a value that it never has.
        """
        found = {name: values[name] for name in cls.__dataclass_fields__}
        if wrong := [name for name, value in found.items() if type(value) is not (int if name == "pid" else str)]:
            raise TypeError(f"unexpected values of {', '.join(wrong)}")
        if not 0 < found["pid"] < 1 << 31:
            raise ValueError(f"{found['pid']} is no process number")
        return cls(**found)

    def to_json(self) -> dict[str, str | int]:
        """Return the fields as JSON values."""
        return asdict(self)

    @property
    def is_dead(self) -> bool:
        """Whether the process has certainly ended: it ran on this machine, and no such process exists now.

        A process of another user counts as alive where `/proc` hides it (mounted with hidepid): all that is left to see
        is that its number is in use.
        """
        if not self.machine or self.machine != _machine_id():
            return False
        if not _exists(self.pid):
            return True
        started = _start_ticks(self.pid)
        return started is not None and bool(self.started) and started != self.started

    def __str__(self) -> str:
        """Return a description for messages."""
        return f"process {self.pid} on {self.host} since {self.since}"


def _machine_id() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _exists(pid: int) -> bool:
    """Return whether there is a process of this number that is no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # It belongs to another user.
        pass
    fields = _stat_fields(pid)
    return fields is None or fields[0] not in "ZX"


def _start_ticks(pid: int) -> str | None:
    """Return the start time of a process; None where it cannot be seen."""
    fields = _stat_fields(pid)
    return None if fields is None else fields[19]


def _stat_fields(pid: int) -> list[str] | None:
    """Return what the kernel reports of a process behind its name; None if it does not exist or is hidden."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
