"""Who holds something: a process, named so that another one on the same machine can tell whether it is dead."""

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
        host: the machine's name, for people.
        pid: its number there.
        machine: the boot of the machine's kernel and the space of process numbers within it (a container has its own);
            "" where the system does not tell.
        started: when the process started, in the kernel's ticks; "" where the system does not tell.
        token: nobody else's.
        since: the time when it became the owner, by its own clock; for people.
    """

    host: str
    pid: int
    machine: str
    started: str
    token: str
    since: str

    @classmethod
    def here(cls) -> Self:
        """This process, from now on."""
        return cls(
            host=platform.node(),
            pid=os.getpid(),
            machine=_machine(),
            started=_started(os.getpid()) or "",
            token=uuid4().hex,
            since=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """From `to_json`.

        Raises:
            KeyError: something is missing.
        """
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @property
    def is_dead(self) -> bool:
        """Whether it certainly runs no longer: it was a process of this machine, and there is none such now."""
        return bool(self.machine) and self.machine == _machine() and _started(self.pid) != self.started

    def __str__(self) -> str:
        """For messages."""
        return f"process {self.pid} on {self.host} since {self.since}"


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process started; None if there is none, or only what its parent has not yet taken notice of."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    state, started = fields[0], fields[19]
    return None if state in "ZX" else started
