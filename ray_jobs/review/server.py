"""The server of review: on the loopback interface alone, until Ctrl-C."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path

import uvicorn

from ray_jobs.console.interrupts import acknowledge, time_to_end
from ray_jobs.errors import JobError
from ray_jobs.review.request_guard import ENTRY
from ray_jobs.review.review_session import ReviewSession
from ray_jobs.review.screens import ScreenAddress
from ray_jobs.review.web_app import build_app

HOST, PORT = "127.0.0.1", 8377
"""Where the server listens unless the port is taken or another one is asked for."""
GRACE_S = 10.0
"""Seconds that a decision has to be written after Ctrl-C."""


def index_folder() -> Path:
    """Return the folder of indexes on this machine."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "fewshot" / "review"


def serve(
    session: ReviewSession,
    *,
    say: Callable[[str], object],
    port: int | None = None,
    start: ScreenAddress | None = None,
    opens_browser: bool = False,
) -> None:
    """Serve pages until the process is interrupted; what was decided is written when this returns.

    Args:
        session: what is shown.
        say: shows a line.
        port: None takes `PORT`, or a free one where that is taken.
        start: screen that is shown first; None for the list of all.
        opens_browser: whether to open the page.

    Raises:
        JobError: the port cannot be had.
    """
    with _listening(port) as listening:
        number = listening.getsockname()[1]
        token = secrets.token_urlsafe(32)
        app = build_app(session, port=number, token=token, start=start)
        config = uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            h11_max_incomplete_event_size=16 << 10,
            timeout_graceful_shutdown=5,
        )
        server = uvicorn.Server(config)
        url = f"http://{HOST}:{number}{ENTRY}{token}"
        say(f"review at {url}")
        say(
            f"from another machine: ssh -L {number}:{HOST}:{number} THIS-MACHINE, then open that URL there; Ctrl-C ends"
        )
        if opens_browser:
            webbrowser.open(url)
        _run(server, listening)


def _run(server: uvicorn.Server, listening: socket.socket) -> None:
    """Run a server in a thread, since signals are the console's, and wait until it has ended."""
    ended = threading.Event()

    def run() -> None:
        try:
            server.run([listening])
        finally:
            ended.set()

    with time_to_end(GRACE_S):
        try:
            threading.Thread(target=run, name="review", daemon=True).start()
            while not ended.wait(0.5):  # After an interrupted `join`, Python 3.11 takes the thread for ended.
                pass
        except KeyboardInterrupt:
            acknowledge()
        server.should_exit = True
        ended.wait(GRACE_S)


def _listening(port: int | None) -> socket.socket:
    for number in (PORT, 0) if port is None else (port,):
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, number))
            listening.listen()
        except OSError as error:
            listening.close()
            problem = error
        else:
            return listening
    raise JobError([f"--port {port}: {problem.strerror or problem}; choose another one"])
