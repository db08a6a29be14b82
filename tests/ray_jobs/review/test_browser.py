"""Review in a real browser, by keyboard alone; skipped where there is none."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

import pytest

from ray_jobs.labels.label_event import LabelEvent
from tests.ray_jobs.review.browser_tab import Tab, answers, decide, press
from tests.ray_jobs.review.counted_keys import IMAGES, LABELS, random_truths, seen
from tests.ray_jobs.review.forked_servers import ForkedServer
from tests.ray_jobs.review.killed_review import STEPS, Kept, KilledReview
from tests.ray_jobs.review.reviewed_run import open_session, written_run
from tests.ray_jobs.review.scripted_reviewer import keys_of_screen, pressed
from tests.ray_jobs.review.served_run import chromium, free_port, served
from tests.ray_jobs.written_run import WrittenRun

AT_LENGTH = bool(os.environ.get("FEWSHOT_BROWSER_AT_LENGTH"))
"""Whether tests of minutes run too."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def run(tmp_path: Path) -> WrittenRun:
    return written_run(tmp_path, 150)


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
        press(page, "d", "n", "e", "x", "f", "s", "g", "Space", "h", "Space")
        press(page, "/", "c", "y")
        page.wait_for_selector("#matches li")
        press(page, "Enter")  # Of the marked images.
        press(page, "a", "/")
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


EVERY_KEY = range(len(STEPS))
KILLS = {
    "at once": (dict.fromkeys(EVERY_KEY, 0.0), True),
    "after 5 ms": (dict.fromkeys(EVERY_KEY, 0.005), True),
    "after 20 ms": (dict.fromkeys(EVERY_KEY, 0.02), True),
    "after 60 ms": (dict.fromkeys(EVERY_KEY, 0.06), True),
    "settled": (dict.fromkeys(EVERY_KEY, inf), True),
    "unnoticed, first": (dict.fromkeys(EVERY_KEY[::3], inf), False),
    "unnoticed, second": (dict.fromkeys(EVERY_KEY[1::3], inf), False),
    "unnoticed, third": (dict.fromkeys(EVERY_KEY[2::3], inf), False),
}
"""After which keys the server is killed, how long after them, and whether the person starts it again at once."""
IN_SHORT = "at once"


@pytest.fixture(scope="module")
def forked() -> Iterator[ForkedServer]:
    server = ForkedServer(free_port(), size=10)
    yield server
    server.close()


@pytest.fixture(scope="module")
def undisturbed(browser: Any, forked: ForkedServer, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    review = KilledReview(browser, forked, tmp_path_factory.mktemp("review") / "undisturbed")
    kept = review.all_steps({})
    assert review.close() == []
    return kept


@pytest.mark.parametrize("when", KILLS)
def test_a_server_that_is_killed_after_any_key_loses_nothing(
    when: str, browser: Any, forked: ForkedServer, undisturbed: Kept, tmp_path: Path
) -> None:
    if when != IN_SHORT and not AT_LENGTH:
        pytest.skip("make test-browser runs it")
    kills, restarts = KILLS[when]
    review = KilledReview(browser, forked, tmp_path / "killed")
    try:
        found = review.all_steps(kills, restarts=restarts)
    finally:
        complaints = review.close()
    assert len(found.after[len(STEPS) - 1]) == 42
    assert found == undisturbed  # Nothing is lost, and nothing is written twice.
    assert complaints == []


def test_an_audit_is_answered_without_predictions(browser: Any, run: WrittenRun) -> None:
    rows = ", ".join(f'{{"image": "folder/{place:03}.png", "probability": 0.5}}' for place in (3, 70, 90))
    run.store.put("audits/one/sample-3.json", f'{{"draw": "one", "images": [{rows}]}}'.encode())
    with served(run, "--screen", "one") as server:
        tab = Tab(browser)
        page = tab.enter(server)
        letters = "Letters: its class. Shift and a letter: choose an image."
        assert page.inner_text("#letters") == letters
        press(page, "b")
        page.wait_for_selector("#matches li")
        press(page, "Enter", "n", "1")  # A digit has no prediction to choose.
        decide(page)
        assert page.get_attribute("#i0", "data-key") == "folder/090.png"
        press(page, "x", "Enter")
        page.wait_for_selector("main a")
        assert Counter(answer for answer, _ in answers(run).values()) == {"label": 1, "unknown": 1, "unreadable": 1}
        assert tab.complaints == []


def test_a_letter_that_is_a_command_and_begins_a_class_offers_both(browser: Any, run: WrittenRun) -> None:
    rows = ", ".join(f'{{"image": "folder/{place:03}.png", "probability": 0.5}}' for place in (3, 70, 90))
    run.store.put("audits/one/sample-3.json", f'{{"draw": "one", "images": [{rows}]}}'.encode())
    with served(run, "--screen", "one") as server:
        tab = Tab(browser)
        page = tab.enter(server)
        press(page, "/")
        page.wait_for_selector("#matches li")
        page.keyboard.type("satsumas")
        press(page, "Enter")  # A new class; of the first image.
        decide(page)
        page.wait_for_selector("#i0")
        press(page, "s")
        page.wait_for_selector("#matches li:nth-child(2)")
        assert page.locator("#matches bdi").first.inner_text() == "skip: I cannot say"
        page.keyboard.type("at")
        press(page, "Enter", "s")
        page.wait_for_selector("#matches li:nth-child(2)")
        press(page, "Enter", "Enter")
        page.wait_for_selector("main a")
        assert Counter(answers(run).values()) == {("label", "satsumas"): 2, ("skipped", None): 1}
        assert tab.complaints == []


def test_letters_lead_from_the_first_page_to_a_search(browser: Any, run: WrittenRun) -> None:
    for name, query in (("1d6c", "amber"), ("7f31", "amber"), ("3fab", "a plum")):
        content = f'{{"kind": "search", "query": "{query}", "images": [{{"image": "folder/003.png"}}]}}'
        run.store.put(f"suggestions/{name}.json", content.encode())
    with served(run) as server:
        tab = Tab(browser)
        page = tab.enter(server)
        press(page, "a", "m")
        page.wait_for_selector("#matches li")
        listed = [line.strip() for line in page.locator("#matches bdi").all_inner_texts()]
        assert listed == ["amber", "Search: amber", "Search: amber 7f31"]
        press(page, "3")
        page.wait_for_selector("#grid")
        assert page.url.endswith("kind=list&name=7f31")
        assert page.inner_text("h1") == "Search: amber"
        assert tab.complaints == []


@pytest.mark.parametrize(("purity", "most"), [(0.95, 0.3), (0.8, 0.7)])
def test_a_scripted_reviewer_labels_five_hundred_images(
    purity: float, most: float, browser: Any, tmp_path: Path
) -> None:
    """With planted images; `counted_keys` has the same reviewer without a browser."""
    if purity < 0.9 and not AT_LENGTH:
        pytest.skip("make test-browser runs it")
    run, truths, labels = written_run(tmp_path, IMAGES, classes=LABELS), random_truths(purity, 0), LABELS
    keys: list[str] = []
    with served(run, "--size", "26") as server:
        tab = Tab(browser)
        page = tab.enter(server)
        for label in labels:
            page.goto(f"http://127.0.0.1:{server.port}/screen?kind=class&name={label}")
            while page.query_selector("#grid"):
                keys += _label_screen(page, truths, labels)
        assert {image: label for image, (_, label) in answers(run).items()} == truths
        sys.stdout.write(f"purity {purity}: {len(keys) / IMAGES} keys a label, {pressed(keys) / IMAGES} with Shift\n")
        assert pressed(keys) / IMAGES <= most
        assert "missed 0 of" in page.inner_text(".who")
        assert tab.complaints == []


def _label_screen(page: Any, truths: Mapping[str, str], labels: Sequence[str]) -> list[str]:
    items = page.eval_on_selector_all("#grid li", "items => items.map(item => ({...item.dataset}))")
    keys = keys_of_screen(seen(items, truths), labels)
    for key in keys[:-1]:
        press(page, key)
        page.wait_for_function("() => !dialogs.classes.open || labels !== null")
    decide(page)
    return keys


def test_screen_readers_get_the_label_the_letter_and_the_key_of_an_image(browser: Any, run: WrittenRun) -> None:
    with served(run) as server:
        tab = Tab(browser)
        page = tab.enter(server, "/screen?kind=class&name=amber")
        assert page.get_attribute("#i0", "aria-label") == "A amber 100\N{NO-BREAK SPACE}%, 1 of 24, folder/000.png"
        press(page, "c", "x", "b", "Space", "ArrowRight")
        assert page.get_attribute("#grid", "aria-activedescendant") == "i2"
        assert page.get_attribute("#i1", "aria-label") == "B not amber, marked, 2 of 24, folder/003.png"
        assert page.get_attribute("#i2", "aria-label") == "C unreadable, 3 of 24, folder/006.png"
        press(page, ".")
        assert page.get_attribute("#closer-picture", "alt") == "folder/006.png"
        press(page, "Escape", "?")
        assert page.is_visible("#keys")
        assert tab.complaints == []
