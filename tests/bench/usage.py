"""CPU time of a command and of all its descendants, including those whose parent has ended.

`getrusage` misses the workers of Ray: their parent ends before them, or never waits for them. So the process tree is
read from /proc (Linux only); the last tenth of a second of each process is missed.
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

SAMPLE_EVERY_S = 0.1
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_SET_CHILD_SUBREAPER = 36
_PARENT, _USER, _SYSTEM, _START = 1, 11, 12, 19
"""Fields of /proc/<pid>/stat, counted after the name of the command."""

_Process = tuple[int, int]
"""Process number and start time: numbers are reused."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The resources of a command.

    Attributes:
        cpu_s: user and system, of all its processes.
        wall_s: time until its end.
        output: its stdout.
    """

    cpu_s: float
    wall_s: float
    output: str


def run_python(module: str, *arguments: str | Path | int) -> Usage:
    """Run a module of this suite in a fresh interpreter.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    return measure([sys.executable, "-m", module, *map(str, arguments)], environment)


def measure(command: Sequence[str], environment: dict[str, str]) -> Usage:
    """Run a command to its end, and measure it.

    Raises:
        subprocess.CalledProcessError: it failed; `stderr` says why.
    """
    before = dict(_descendants())
    ticks: dict[_Process, int] = {}
    started = time.monotonic()
    with TemporaryFile("w+") as output, TemporaryFile("w+") as log, _adopting_orphans():
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=log)
        while process.poll() is None:
            ticks.update(_descendants())
            time.sleep(SAMPLE_EVERY_S)
        wall_s = time.monotonic() - started
        stdout, stderr = _content(output), _content(log)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stdout, stderr)
    return Usage(sum(ticks[process] for process in ticks.keys() - before) / TICKS_PER_SECOND, wall_s, stdout)


def _content(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


@contextmanager
def _adopting_orphans() -> Iterator[None]:
    """Become the parent of descendants whose own parent ends before them, so that they stay in the tree."""
    control = ctypes.CDLL(None).prctl
    control(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        control(_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _descendants() -> Iterator[tuple[_Process, int]]:
    """Yield the live descendants of this process, with the clock ticks that they have used."""
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
    """Yield every process of the machine: its number, and (parent, start, clock ticks used)."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        yield int(folder.name), (int(fields[_PARENT]), int(fields[_START]), int(fields[_USER]) + int(fields[_SYSTEM]))
