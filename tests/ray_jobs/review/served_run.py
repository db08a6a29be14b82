"""The command itself in a process of its own, which a test may kill, and a real browser to use its pages with."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.ray_jobs.written_run import RUN, WrittenRun
from tests.sources import ROOT


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class Server:
    """`fewshot review` on a run."""

    def __init__(self, run: WrittenRun, *words: str) -> None:
        self.run, self.words, self.port = run, words, free_port()
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> str:
        """Start the process, and return the URL that it prints."""
        words = ("review", self.run.store.url(RUN), "--port", str(self.port), "--by", "ann", *self.words)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ray_jobs", *words],
            env=os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(self.run.folder / "cache")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:\d+/enter/\S+", line):
                self.url = found[0]
            if "Ctrl-C" in line:
                return self.url
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.communicate()

    def stop(self) -> tuple[int, str, str]:
        """Press Ctrl-C, and return exit code, stdout and the rest of stderr."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@contextmanager
def served(run: WrittenRun, *words: str) -> Iterator[Server]:
    server = Server(run, *words)
    server.start()
    try:
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.kill()


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless Chromium of this machine; the test is skipped where there is none (`make test-browser`)."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make setup")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: make test-browser")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def demo_pictures(folder: Path, count: int) -> dict[str, bytes]:
    """Pictures of the demo's archive, by name."""
    from fewshot.demo import write_demo

    archive = write_demo(folder).archive
    found = sorted(path for path in Path(archive).rglob("*.webp"))[:count]
    return {path.name: path.read_bytes() for path in found}
