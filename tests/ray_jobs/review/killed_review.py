"""A person who labels by keyboard while the server is killed, and does about it what the page says."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray_jobs.labels.label_event import LabelEvent
from tests.ray_jobs.review.browser_tab import Tab, answers, press
from tests.ray_jobs.review.forked_servers import ForkedServer
from tests.ray_jobs.review.reviewed_run import open_session, written_run
from tests.ray_jobs.written_run import WrittenRun

SIZE, IMAGES = 10, 66
LEAST, LARGE = "/screen?kind=least", "/screen?kind=large"
STEPS = (
    *("a", "m", "Enter"),  # On the first page: the class amber.
    *(
        "ArrowRight",
        "Space",
        "d",
        "n",
        "f",
        "c",
        "y",
        "Enter",
        "?",
        "Escape",
        "Enter",
    ),  # One is marked, two relabelled.
    *("Enter", "u", "b", "2", "Enter"),  # Accepted, undone, and accepted with another label.
    *("/screen?kind=class&name=blue", "ArrowDown", "x", "ArrowLeft", "s", "Enter"),
    *(LEAST, "e", "/", "m", "a", "u", "v", "e", "Enter", "Enter"),  # A new class.
    *(LARGE, "2", "Enter", "Enter"),
)
"""Keys, and addresses of pages that the person goes to; 42 images get an answer."""

ALLOWED = (
    "net::ERR_CONNECTION_",
    "net::ERR_CONTENT_LENGTH_MISMATCH",
    "net::ERR_EMPTY_RESPONSE",
    "status of 403",
    "net::ERR_SOCKET",
)
"""What the console may say of a server that is gone, and of the new one before its URL was opened."""
STATE = """() => {
  if (location.protocol === "chrome-error:") return "gone";
  if (document.readyState !== "complete") return null;
  if (document.getElementById("no-script")) return "bare";
  if (typeof wake === "undefined") return null;
  const asks = dialogs.classes.open && labels === null;
  if (wake || missing.size || (asks && !byId("no-labels").hidden)) return "gone";
  return sending || asks ? null : "here";
}"""


@dataclass
class Kept:
    """What is in the ledger in the course of a review.

    Attributes:
        after: by step, the answers once the page has shown the next screen.
        events: how often each answer was written, at the end.
    """

    after: dict[int, dict[str, tuple[str, str | None]]] = field(default_factory=dict)
    events: Counter[tuple[str, str, str | None]] = field(default_factory=Counter)


class KilledReview:
    """A review of a run, from the first step to the last."""

    def __init__(self, browser: Any, server: ForkedServer, folder: Path) -> None:
        folder.mkdir()
        self.run: WrittenRun = written_run(folder, IMAGES)
        self.server = server
        server.start(self.run)
        self.tab = Tab(browser)
        self.page = self.tab.page
        self.page.goto(server.url)
        self.page.wait_for_selector("h1")
        self.settle()

    def do(self, step: str) -> None:
        """Do a step, without waiting for what comes of it."""
        if not step.startswith("/screen"):
            press(self.page, step)
            return
        from playwright.sync_api import Error

        with suppress(Error):  # The browser shows an error page, then.
            self.page.goto(f"http://127.0.0.1:{self.server.port}{step}")

    def settle(self) -> None:
        """Wait until the page has what it asked for; if it says that the server is gone, start another one."""
        if (state := self.page.wait_for_function(STATE).json_value()) == "here":
            return
        if not self.server.runs:
            self._restart()
        if state == "bare" or self.page.url.startswith("chrome-error:"):
            self.page.reload()
        elif self.page.evaluate("wake !== null"):
            press(self.page, "Enter")  # Sends it at once; the page would do so by itself.
        self.page.wait_for_function(f"() => ({STATE})() === 'here'")

    def _restart(self) -> None:
        """Start a server, and get this browser its cookie, as opening its URL in another tab does."""
        self.server.start(self.run)
        self.tab.context.request.get(self.server.url)

    def all_steps(self, kills: dict[int, float], *, restarts: bool = False) -> Kept:
        """Do all steps.

        Args:
            kills: steps after which the server is killed, with seconds to wait before that; infinity waits until the
                page has settled.
            restarts: whether the server is started again at once, and not when the page says that it is gone.
        """
        kept = Kept()
        for place, step in enumerate(STEPS):
            self.do(step)
            if (wait_s := kills.get(place)) is not None:
                if wait_s == float("inf"):
                    self.settle()
                else:
                    time.sleep(wait_s)
                self.server.kill()
                if restarts:
                    self._restart()
            self.settle()
            if step in ("Enter", "u"):
                kept.after[place] = answers(self.run)
        events = [event for event in open_session(self.run).archive.ledger.events() if isinstance(event, LabelEvent)]
        kept.events = Counter((event.image, event.answer, event.label) for event in events)
        return kept

    def close(self) -> list[str]:
        """End server and tab, and return what the console said beside what it must say of a server that is gone."""
        self.server.kill()
        self.tab.context.close()
        return [text for text in self.tab.complaints if not any(each in text for each in ALLOWED)]
