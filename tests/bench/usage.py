"""CPU time of a command and of everything it starts, whoever their parents become.

`getrusage` does not see the workers of Ray: their parent leaves before them, or never waits. So the tree is followed
through /proc (Linux only); what a process does in the last tenth of a second before its end is missed.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

EVERY_S = 0.1
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_SET_CHILD_SUBREAPER = 36
_PARENT, _USER, _SYSTEM, _START = 1, 11, 12, 19
"""Places in /proc/<pid>/stat, counted after the name of the command."""

_Process = tuple[int, int]
"""Number and time of start: numbers are used again."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a command took.

    Attributes:
        cpu_s: user and system, of all its processes.
        wall_s: until it ended.
        output: what it wrote to stdout.
    """

    cpu_s: float
    wall_s: float
    output: str


def python(module: str, *arguments: str | Path | int) -> Usage:
    """Run a module of this suite in a fresh interpreter.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    return used([sys.executable, "-m", module, *map(str, arguments)], environment)


def used(command: Sequence[str], environment: dict[str, str]) -> Usage:
    """Run a command to its end and count.

    Raises:
        subprocess.CalledProcessError: it failed; `stderr` says why.
    """
    before = dict(_descendants())
    ticks: dict[_Process, int] = {}
    started = time.monotonic()
    with TemporaryFile("w+") as output, TemporaryFile("w+") as log, _orphans_adopted():
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=log)
        while process.poll() is None:
            ticks.update(_descendants())
            time.sleep(EVERY_S)
        wall_s = time.monotonic() - started
        said, logged = _content(output), _content(log)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, said, logged)
    return Usage(sum(ticks[process] for process in ticks.keys() - before) / TICKS_A_SECOND, wall_s, said)


def _content(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


@contextmanager
def _orphans_adopted() -> Iterator[None]:
    """Be the parent of descendants whose own parent ends before them, so that they stay in the tree."""
    control = ctypes.CDLL(None).prctl
    control(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        control(_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _descendants() -> Iterator[tuple[_Process, int]]:
    """What lives below this process, with the clock ticks it has used."""
    own = os.getpid()
    processes = dict(_processes())
    for pid, (_, started, ticks) in processes.items():
        if own in _ancestors(pid, processes):
            yield (pid, started), ticks


def _ancestors(pid: int, processes: Mapping[int, tuple[int, int, int]]) -> Iterator[int]:
    while pid in processes:
        pid = processes[pid][0]
        yield pid


def _processes() -> Iterator[tuple[int, tuple[int, int, int]]]:
    """Every process of the machine: its number, and (parent, start, clock ticks used)."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        yield int(folder.name), (int(fields[_PARENT]), int(fields[_START]), int(fields[_USER]) + int(fields[_SYSTEM]))
