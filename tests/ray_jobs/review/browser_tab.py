"""A page of a browser in tests, and the answers in the ledger behind it."""

from __future__ import annotations

from typing import Any

from tests.ray_jobs.review.reviewed_run import open_session
from tests.ray_jobs.review.served_run import Server
from tests.ray_jobs.written_run import WrittenRun

WAIT_MS = 120_000
"""For what a page shows: beside other programs the server may need longer than a browser usually waits."""


class Tab:
    """A page of the browser, with what it complains about."""

    def __init__(self, browser: Any, width: int = 1600) -> None:
        self.complaints: list[str] = []
        self.context = browser.new_context(viewport={"width": width, "height": 900})
        self.context.set_default_timeout(WAIT_MS)
        self.page = self.new_page()

    def new_page(self) -> Any:
        page = self.context.new_page()
        page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def enter(self, server: Server, path: str = "") -> Any:
        self.page.goto(server.url)
        self.page.wait_for_selector("h1")
        self.page.wait_for_load_state()  # Keys count from then on.
        if path:
            self.page.goto(f"http://127.0.0.1:{server.port}{path}")
        return self.page


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def decide(page: Any) -> None:
    """Press Enter, and wait for another showing of a screen."""
    before = page.get_attribute("body", "data-screen")
    press(page, "Enter")
    page.wait_for_function("before => document.body.dataset.screen !== before", arg=before)


def answers(run: WrittenRun) -> dict[str, tuple[str, str | None]]:
    session = open_session(run)
    current = session.refresh().of_archive(session.archive.source.identity)
    return {image: (event.answer, event.label) for image, event in current.items()}
