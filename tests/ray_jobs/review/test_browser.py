"""Review in a real browser, by keyboard alone; skipped where there is none."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ray_jobs.labels.label_event import LabelEvent
from tests.ray_jobs.review.reviewed_run import open_session, written_run
from tests.ray_jobs.review.scripted_reviewer import SeenImage, demo_classes, keys_of_screen
from tests.ray_jobs.review.served_run import Server, chromium, served
from tests.ray_jobs.written_run import WrittenRun

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def run(tmp_path: Path) -> WrittenRun:
    return written_run(tmp_path, 150)


class Tab:
    """A page of the browser, with what it complains about."""

    def __init__(self, browser: Any, width: int = 1600) -> None:
        self.complaints: list[str] = []
        self.context = browser.new_context(viewport={"width": width, "height": 900})
        self.page = self.new_page()

    def new_page(self) -> Any:
        page = self.context.new_page()
        page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def enter(self, server: Server, path: str = "") -> Any:
        self.page.goto(server.url)
        self.page.wait_for_selector("h1")
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


@pytest.mark.parametrize("width", [360, 1600])
def test_forty_images_are_labelled_by_keyboard_alone(browser: Any, run: WrittenRun, width: int) -> None:
    with served(run, "--size", "20") as server:
        tab = Tab(browser, width)
        page = tab.enter(server)
        press(page, "a", "m")
        page.wait_for_selector("#matches li")
        press(page, "Enter")
        page.wait_for_selector("#grid")
        keys = [page.get_attribute(f"#i{place}", "data-key") for place in range(20)]
        press(page, "ArrowRight", "2")  # The second prediction of the second image.
        press(page, "Shift+D", "n", "Shift+E", "x", "Shift+F", "s", "Shift+G", "Space", "Shift+H", "Space")
        press(page, "c", "y")
        page.wait_for_selector("#matches li")
        press(page, "Enter")  # Of the marked images.
        press(page, "Shift+A", "/")
        page.keyboard.type("mauve")
        press(page, "Enter")
        decide(page)
        decide(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        given = answers(run)
        assert len(given) == 40
        expected = {1: "blue", 3: "unknown", 4: "unreadable", 5: "skipped", 6: "cyan", 7: "cyan", 0: "mauve"}
        for place, key in enumerate(keys):
            answer, label = given[str(key)]
            assert (label or answer) == expected.get(place, "amber")
        press(page, "u")
        page.wait_for_url(lambda url: "after" not in url)
        assert len(answers(run)) == 20
        page.reload()
        assert page.inner_text(".who").startswith("ann · 20 labelled")
        assert tab.complaints == []
        code, out, _ = server.stop()
        assert (code, '"labelled": 20' in out) == (0, True)


def test_two_tabs_at_once_lose_nothing(browser: Any, run: WrittenRun) -> None:
    with served(run, "--size", "10") as server:
        tab = Tab(browser)
        first = tab.enter(server, "/screen?kind=class&name=amber")
        second = tab.new_page()
        second.goto(f"http://127.0.0.1:{server.port}/screen?kind=class&name=blue")
        for _ in range(3):
            decide(first)
            decide(second)
        events = [event for event in open_session(run).archive.ledger.events() if isinstance(event, LabelEvent)]
        assert Counter(event.label for event in events) == {"amber": 30, "blue": 30}
        assert len({event.image for event in events if event.reason == "review"}) == len(answers(run))
        assert tab.complaints == []


def test_a_server_that_is_killed_between_any_two_keys_loses_nothing(browser: Any, run: WrittenRun) -> None:
    with served(run, "--size", "10") as server:
        tab = Tab(browser)
        page = tab.enter(server, "/screen?kind=class&name=amber")
        decide(page)
        keys = ["ArrowRight", "2", "Shift+D", "n", "Shift+E", "Space"]
        for key in keys:
            press(page, key)
        for kill_after in range(3):
            server.kill()
            press(page, "Enter")
            page.wait_for_function("document.getElementById('status').textContent.startsWith('Not stored')")
            assert len(answers(run)) == 10 * (kill_after + 1)
            server.start()
            tab.new_page().goto(server.url)  # Gives this browser the cookie of the new server.
            decide(page)
            assert len(answers(run)) == 10 * (kill_after + 2)
        events = [event for event in open_session(run).archive.ledger.events() if isinstance(event, LabelEvent)]
        assert len(events) == len({event.image for event in events}) == 40
        assert {event.answer for event in events} == {"label", "unknown", "skipped"}


def test_an_audit_is_answered_without_predictions(browser: Any, run: WrittenRun) -> None:
    rows = ", ".join(f'{{"image": "folder/{place:03}.png", "probability": 0.5}}' for place in (3, 70, 90))
    run.store.put("audits/one/sample-3.json", f'{{"draw": "one", "images": [{rows}]}}'.encode())
    with served(run, "--screen", "one") as server:
        tab = Tab(browser)
        page = tab.enter(server)
        press(page, "b")
        page.wait_for_selector("#matches li")
        press(page, "Enter", "n", "1")  # A digit has no prediction to choose.
        decide(page)
        assert page.get_attribute("#i0", "data-key") == "folder/090.png"
        press(page, "x", "Enter")
        page.wait_for_selector("main a")
        assert Counter(answer for answer, _ in answers(run).values()) == {"label": 1, "unknown": 1, "unreadable": 1}
        assert tab.complaints == []


def test_a_scripted_reviewer_labels_five_hundred_images(browser: Any, tmp_path: Path) -> None:
    labels = demo_classes()[:20]
    run = written_run(tmp_path, 500, classes=labels)
    random = Random(0)
    truths = {
        f"folder/{place:03}.png": random.choice(labels) if random.random() < 0.05 else labels[place % 20]
        for place in range(500)
    }
    with served(run, "--size", "26") as server:
        tab, pressed = Tab(browser), 0
        page = tab.enter(server)
        for label in labels:
            page.goto(f"http://127.0.0.1:{server.port}/screen?kind=class&name={label}")
            while page.query_selector("#grid"):
                seen = page.eval_on_selector_all("#grid li", "items => items.map(item => ({...item.dataset}))")
                screen = [
                    SeenImage(truths[each["key"]], tuple(name for name, _ in json.loads(each["top"]))) for each in seen
                ]
                keys = keys_of_screen(screen, labels)
                for before, key in zip(["Enter", *keys], keys[:-1], strict=False):
                    if before not in ("Enter", "ArrowRight") and page.evaluate("dialogs.classes.open"):
                        page.wait_for_selector("#matches li")
                    press(page, key)
                pressed += len(keys)
                decide(page)
        assert {image: label for image, (_, label) in answers(run).items()} == truths
        assert pressed / 500 <= 0.4  # Classes of 25 images, only two predictions each, and what is planted.

        assert "missed 0 of" in page.inner_text(".who")
        assert tab.complaints == []


def test_screen_readers_get_the_label_the_letter_and_the_key_of_an_image(browser: Any, run: WrittenRun) -> None:
    with served(run) as server:
        tab = Tab(browser)
        page = tab.enter(server, "/screen?kind=class&name=amber")
        assert page.get_attribute("#i0", "aria-label") == "A amber 100\N{NO-BREAK SPACE}%, 1 of 24, folder/000.png"
        press(page, "Shift+C", "x", "Shift+B", "Space", "ArrowRight")
        assert page.get_attribute("#grid", "aria-activedescendant") == "i2"
        assert page.get_attribute("#i1", "aria-label") == "B not amber, marked, 2 of 24, folder/003.png"
        assert page.get_attribute("#i2", "aria-label") == "C unreadable, 3 of 24, folder/006.png"
        press(page, ".")
        assert page.get_attribute("#closer-picture", "alt") == "folder/006.png"
        press(page, "Escape", "?")
        assert page.is_visible("#keys")
        assert tab.complaints == []
