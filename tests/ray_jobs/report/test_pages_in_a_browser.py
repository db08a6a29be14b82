"""The pages of a report in a real browser, opened as files: WCAG AA, no requests, and a table that can be sorted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ray_jobs.output.latest_runs import record_latest
from ray_jobs.output.runs import record_work
from ray_jobs.report import ensure_report, find_reports
from tests.ray_jobs.report.test_report import ALL, BAD
from tests.ray_jobs.report.test_run_work import STAGE
from tests.ray_jobs.review.served_run import chromium
from tests.ray_jobs.written_run import CASCADES, CLASSES, ESCALATED, MEASURED, RUN, WrittenRun

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
PAGES = ("index.html", "classes/index.html", "classes/0001-1.html", "work.html")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report with all of its pages, and as many sections as one can have."""
    given = {f"{name}.png": CLASSES[place % 2] for place, name in enumerate("abcdefgh")}
    metrics = MEASURED | {"escalated": ESCALATED | {"measured": CASCADES}}
    written = WrittenRun(tmp_path_factory.mktemp("report"), metrics=metrics, given=given, escalated=("h.png",))
    run = written.write(ALL, broken=BAD)
    record_work(run.store, RUN, [STAGE])
    record_latest(run.store, "by-hand", "classification", RUN)
    assert ensure_report(run.store, RUN, run.job, keep=False) is not None
    find_reports(run.store.root, pages=True)
    return Path(run.store.url(f"{RUN}/report"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1600])
def test_pages_conform_to_wcag_aa(browser: Any, report: Path, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python", reason="axe is not installed: make test-browser")
    script = Path(axe.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
    )  # The policy of the pages lets no such script run.
    for name in PAGES:
        page = context.new_page()
        page.goto((report / name).as_uri())
        page.evaluate(script)
        found = page.evaluate("rules => axe.run({runOnly: rules})", RULES)["violations"]
        assert [(each["id"], [node["html"] for node in each["nodes"]][:3]) for each in found] == [], name
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name


def test_nothing_is_requested_and_nothing_complained_about(browser: Any, report: Path) -> None:
    for name in PAGES:
        page = browser.new_page()
        seen: list[str] = []
        page.on("console", lambda message, seen=seen: seen.append(message.text))
        page.on("pageerror", lambda error, seen=seen: seen.append(str(error)))
        page.on("request", lambda request, seen=seen: seen.append(request.url))
        page.goto((report / name).as_uri(), wait_until="networkidle")
        requests = [url for url in seen if not url.startswith("data:image/webp;base64,")]
        assert requests == [(report / name).as_uri()]


def test_the_table_of_classes_is_sorted_and_filtered(browser: Any, report: Path) -> None:
    page = browser.new_page()
    page.goto((report / "classes/index.html").as_uri())

    def names() -> list[str]:
        shown = page.query_selector_all("tbody tr:not([hidden]) th")
        return [cell.inner_text() for cell in shown]

    assert sorted(names()) == sorted(CLASSES)
    for title, column in (("images", 1), ("withheld", 2), ("recall", -1)):
        page.click(f"th button:has-text('{title}')")
        read = "(rows, column) => rows.map(row => Number([...row.cells].at(column).dataset.value))"
        values = page.eval_on_selector_all("tbody tr", read, column)
        assert values == sorted(values, reverse=True)
        page.click(f"th button:has-text('{title}')")
        assert page.get_attribute(f"th:has(button:has-text('{title}'))", "aria-sort") == "ascending"
    page.click("th button:has-text('class')")
    assert names() == sorted(CLASSES)
    page.fill("#filter", "BL")
    assert names() == ["blue"]
    assert page.inner_text("#filtered") == "1 of 3"
    page.click("a:has-text('blue')")
    page.wait_for_selector("h1:has-text('blue')")


def test_the_table_reads_well_without_scripts(browser: Any, report: Path) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto((report / "classes/index.html").as_uri())
    assert not page.is_visible("#filter")
    assert page.locator("tbody tr").count() == len(CLASSES)
    assert page.locator("th button").count() == 0
