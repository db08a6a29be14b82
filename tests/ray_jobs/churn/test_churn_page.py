"""The page of what changed: the old label left, the new one right, whatever names are like, in a browser as well."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from cluster.records import read_shard
from ray_jobs.churn import write_churn
from ray_jobs.inputs.archive import open_archive
from ray_jobs.output.layout import CHURN_PAGE
from ray_jobs.report.pictures import thumbnail
from tests.cluster.records.archives import write_folder
from tests.ray_jobs.churn.test_registered_runs import FIRST, with_registry
from tests.ray_jobs.churn.two_runs import FORMER, PRESENT, TwoRuns, in_shards, row
from tests.ray_jobs.place import fewshot
from tests.ray_jobs.report.test_report import HOSTILE, PICTURES, Page
from tests.ray_jobs.review.served_run import chromium

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
TURNED = {"amber": "blue", "blue": "cyan", "cyan": "amber"}


def with_pictures(folder: Path, images: dict[str, bytes] = PICTURES) -> TwoRuns:
    """Write two runs over an archive of images; every label but those of every fourth image changes."""
    write_folder(folder / "archive", images)
    runs = TwoRuns(folder)
    before, after = dict[str, list[Any]](), dict[str, list[Any]]()
    count = 0
    for shard in open_archive(runs.archive).shards():
        keys = [record.key for record in read_shard(shard)]
        labels = [list(TURNED)[(count + n) % 3] for n in range(len(keys))]
        before[shard.fingerprint] = [row(key, label, 0.875) for key, label in zip(keys, labels, strict=True)]
        after[shard.fingerprint] = [
            row(key, label if (count + n) % 4 == 3 else TURNED[label], 0.5)
            for n, (key, label) in enumerate(zip(keys, labels, strict=True))
        ]
        count += len(keys)
    runs.write(FORMER, before, number=1)
    runs.write(PRESENT, after, number=2)
    return runs


def compare(runs: TwoRuns, *words: str) -> Any:
    return fewshot("churn", runs.store.url(FORMER), runs.store.url(PRESENT), *words)


def page_of(runs: TwoRuns) -> str:
    return runs.store.get(f"{PRESENT}/{CHURN_PAGE}").decode().replace("\u00a0", " ")


def test_the_page_shows_every_changed_image_with_both_labels(tmp_path: Path) -> None:
    runs = with_pictures(tmp_path)
    compare(runs)
    html = page_of(runs)
    page = Page(html)
    cards = re.findall(r'<figure class="card">.*?</figure>', html, re.S)
    assert len(cards) == 6
    for card in cards:
        sides = re.findall(r'<span class="when">(before|now) </span><bdi>(\w+)</bdi><span class="when"> ([\d.]+)', card)
        (key,) = re.findall(r'class="key"><bdi>(\w\.png)', card)
        (_, old, one), (_, new, other) = sides
        assert ([when for when, *_ in sides], one, other) == (["before", "now"], "0.88", "0.50")
        assert TURNED[old] == new
        assert thumbnail(PICTURES[key], side=96) in unescape(card)
    assert "<h1>6 of 8 labels changed (75.0 %)</h1>" in html
    assert [attributes["href"] for tag, attributes in page.tags if tag == "a"] == ["index.html"]
    assert html.index("Which labels changed") < html.index("Some of the changed images") < html.index("Class by class")


def test_counts_of_classes_and_shares_of_pairs_are_in_their_columns(tmp_path: Path) -> None:
    before = [row(f"{n}.png", "amber") for n in range(5)] + [row("x.png", "blue")]
    after = [row(f"{n}.png", ("amber", "blue", "blue", "blue", "cyan")[n]) for n in range(5)] + [row("x.png", "blue")]
    runs = TwoRuns(tmp_path)
    write_churn(*runs.both(before, after))
    rows = [re.sub(r"<[^>]+>", " ", each).split() for each in re.findall(r"<tr>.*?</tr>", page_of(runs), re.S)]
    assert ["amber", "→", "blue", "3", "75.0", "%"] in rows
    assert ["amber", "5", "−4", "0", "1"] in rows
    assert ["blue", "1", "0", "+3", "4"] in rows


@pytest.mark.parametrize("former_has_all", [True, False])
def test_pictures_are_found_in_any_shard(tmp_path: Path, former_has_all: bool) -> None:
    write_folder(tmp_path / "archive", PICTURES)
    runs = TwoRuns(tmp_path, shard_images=3)
    rows = {
        shard.fingerprint: [row(record.key, "amber") for record in read_shard(shard)]
        for shard in open_archive(runs.archive).shards()
    }
    assert len(PICTURES) > len(rows) > 2
    every = [each for part in rows.values() for each in part]
    runs.write(FORMER, rows if former_has_all else in_shards(every[::-1], 5), number=1)
    after = {shard: [each | {"label": "blue"} for each in part] for shard, part in rows.items()}
    runs.write(PRESENT, after, number=2)
    compare(runs)
    shown = re.findall(r'<img src="([^"]+)".*?class="key"><bdi>(\w\.png)', page_of(runs), re.S)
    assert {key: picture for picture, key in shown} == {key: thumbnail(data, side=96) for key, data in PICTURES.items()}


def test_a_page_without_a_change_says_so(tmp_path: Path) -> None:
    runs = TwoRuns(tmp_path)
    write_churn(*runs.both([row("a.png", "amber")], [row("a.png", "amber")]))
    html = page_of(runs)
    assert "0 of 1 label changed" in html
    assert "No image has another class than before." in html
    assert "<img" not in html


def test_what_is_apart_is_on_the_page(tmp_path: Path) -> None:
    before = [row("a.png", "amber"), row("b.png", "abstained"), row("c.png", "amber"), row("d.png", "unreadable")]
    after = [row("a.png", "gold"), row("b.png", "amber"), row("e.png", "amber"), row("d.png", "amber")]
    runs = TwoRuns(tmp_path)
    former, present = runs.both(before, after)
    write_churn(former, present)
    html = re.sub(r"<[^>]+>", " ", page_of(runs))
    for words in ("New images 1", "Gone images 1", "Unreadable 1", "abstained ok 1"):
        assert words in re.sub(r"\s+", " ", html)


def test_hostile_names_are_shown_as_text(tmp_path: Path) -> None:
    runs = TwoRuns(tmp_path, classes=(HOSTILE, "amber"))
    keys = [HOSTILE, "\u202egnp.exe", "a\u0000b\u001b[31m.png", "x" * 5000]
    before = [row(key, HOSTILE) for key in keys]
    write_churn(*runs.both(before, [row(key, "amber") for key in keys]))
    html = page_of(runs)
    Page(html)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "\u0000" not in html
    assert "\u001b" not in html
    assert "x" * 100 not in html
    assert "default-src 'none'" in html


def test_the_command_prints_the_counts_and_the_page(tmp_path: Path) -> None:
    runs = with_pictures(tmp_path)
    done = compare(runs)
    assert done.code == 0
    assert (done.result["flipped"], done.result["images"], done.result["share"]) == (6, 8, 0.75)
    assert done.result["page"] == runs.store.url(f"{PRESENT}/{CHURN_PAGE}")
    assert Path(done.result["page"]).exists()
    told = done.messages.replace("\u00a0", " ")
    assert "6 of 8 labels changed (75.0 %)" in told
    assert f"page: {done.result['page']}" in told
    assert (
        compare(runs, "--renamed", "amber=blue", "--renamed", "blue=cyan", "--renamed", "cyan=amber").result["flipped"]
        == 2
    )
    assert fewshot("verify", runs.store.url(PRESENT)).code == 0


def test_the_command_takes_versions_and_job_files(tmp_path: Path) -> None:
    runs = with_pictures(tmp_path)
    with_registry(runs, {1: FIRST, 2: FIRST}, 1, 2)
    job = tmp_path / "job.toml"
    job.write_text(f'[job]\nname = "groceries"\noutput = "{runs.store.root}"\n')
    for before, after in (
        (f"{runs.store.root}@1", f"{runs.store.root}@2"),
        (f"{job}@1", job),
        (runs.store.url(FORMER), runs.store.root),
    ):
        done = fewshot("churn", before, after)
        assert (done.code, done.result["before"]["run"], done.result["after"]["run"]) == (
            0,
            "groceries-000000000001",
            "groceries-000000000002",
        )


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--renamed", "amber"), "--renamed: expected OLD=NEW, got 'amber'"),
        (("--renamed", "=amber"), "--renamed: expected OLD=NEW, got '=amber'"),
        (("--renamed", "a=b", "--renamed", "a=c"), "--renamed: 'a' has two new names, 'b' and 'c'"),
    ],
)
def test_wrong_options_of_the_command_are_explained(tmp_path: Path, words: tuple[str, ...], problem: str) -> None:
    done = compare(with_pictures(tmp_path), *words)
    assert done.code == 2
    assert problem in done.messages


def test_damage_of_the_page_is_found(tmp_path: Path) -> None:
    runs = with_pictures(tmp_path)
    page = Path(compare(runs).result["page"])
    page.write_bytes(page.read_bytes().replace(b"amber", b"umber"))
    found = fewshot("verify", runs.store.url(PRESENT))
    assert found.code == 1
    assert CHURN_PAGE in found.messages


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with all of its sections."""
    runs = with_pictures(tmp_path_factory.mktemp("churn"))
    with_registry(runs, {1: FIRST, 2: FIRST}, 1, 2)
    return Path(compare(runs).result["page"])


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1600])
def test_the_page_conforms_to_wcag_aa(browser: Any, written: Path, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python", reason="axe is not installed: make test-browser")
    script = Path(axe.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.goto(written.as_uri())
    page.evaluate(script)
    found = page.evaluate("rules => axe.run({runOnly: rules})", RULES)["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]][:3]) for each in found] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.slow
def test_old_labels_stand_left_of_new_ones_and_nothing_is_requested(browser: Any, written: Path) -> None:
    page = browser.new_page()
    seen: list[str] = []
    page.on("console", lambda message: seen.append(message.text))
    page.on("request", lambda request: seen.append(request.url))
    page.goto(written.as_uri(), wait_until="networkidle")
    assert [each for each in seen if not each.startswith("data:image/webp;base64,")] == [written.as_uri()]
    boxes = page.eval_on_selector_all(
        ".change", "all => all.map(each => [...each.children].map(side => side.getBoundingClientRect().left))"
    )
    assert len(boxes) == 6
    assert all(left < arrow < right for left, arrow, right in boxes)
