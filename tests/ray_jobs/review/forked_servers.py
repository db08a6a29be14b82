"""Servers of review in forks of one process that has all modules, so that a test can afford to kill a hundred.

The process reads commands from stdin, JSON in a line each, and answers in a line each:

["start", URL of a run, folder of indexes, port, images of a screen]    the URL that the server prints
["kill"]                                                                "" once it has ended
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from ray_jobs.labels.labelled_archive import LabelledArchive
from ray_jobs.review.prediction_index import PredictionIndex, open_index
from ray_jobs.review.review_session import ReviewSession
from ray_jobs.review.server import serve
from tests.ray_jobs.written_run import RUN, WrittenRun
from tests.sources import ROOT


class ForkedServer:
    """One server at a time, always on the same port of a run's own; nothing is planted on its screens."""

    def __init__(self, port: int, *, size: int) -> None:
        self.port, self.size, self.url, self.runs = port, size, "", False
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, run: WrittenRun) -> None:
        """Start a server; the one before must have been killed."""
        assert not self.runs
        self.url = self._answer("start", run.store.url(RUN), str(run.folder / "indexes"), self.port, self.size)
        self.runs = True

    def kill(self) -> None:
        """SIGKILL the server."""
        if self.runs:
            self._answer("kill")
        self.runs = False

    def close(self) -> None:
        """End the server and the process."""
        self.kill()
        self._process.communicate()

    def _answer(self, *words: object) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


def _serve(url: str, indexes: str, port: int, size: int) -> None:
    archive = LabelledArchive.open(url)
    index = PredictionIndex(open_index(archive.run, Path(indexes)))
    session = ReviewSession(archive, index, by="ann", size=size, planted=0.0)
    serve(session, say=_say, port=port)


def _say(line: str) -> None:
    if line.startswith("review at "):
        _reply(line.removeprefix("review at "))


def _reply(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _main() -> None:
    server = 0
    for line in sys.stdin:
        command, *words = json.loads(line)
        if command == "kill":
            _kill(server)
            server = 0
            _reply("")
        else:
            server = os.fork()
            if not server:
                _serve(*words)
                os._exit(1)
    if server:  # The test has ended without a word.
        _kill(server)


def _kill(server: int) -> None:
    os.kill(server, signal.SIGKILL)
    os.waitpid(server, 0)


if __name__ == "__main__":
    _main()
