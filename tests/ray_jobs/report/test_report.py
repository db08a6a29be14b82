"""The report of a run: one page that shows what became of the archive, whatever its names and files are like."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from cluster.records import Record, Shard
from ray_jobs.output.layout import Spot
from ray_jobs.output.runs import read_run
from ray_jobs.report import ensure_report, find_reports
from ray_jobs.report.charts import CurvePoint, accuracy_by_cost, gaps_by_time, histogram
from ray_jobs.report.failures import Broken, Reason, read_reasons, some_of_each
from ray_jobs.report.image_sample import SHOWN, by_shard, draw_sample, evenly
from ray_jobs.report.markup import element, outside, skipped_entries
from ray_jobs.report.page_templates import render_sections
from ray_jobs.report.pictures import archive_pictures, of_archive, thumbnail
from ray_jobs.results import ScoreHistogram
from tests.ray_jobs.place import fewshot
from tests.ray_jobs.written_run import CASCADES, CLASSES, ESCALATED, MEASURED, RUN, WrittenRun
from tests.strange_files import encode, photo

pytestmark = pytest.mark.slow

VOID = {"br", "img", "input", "link", "meta", "wbr"}
HOSTILE = '<script>alert("1")</script>\'&lt;'
PICTURES = {f"{name}.png": encode(photo(60, 40, seed=seed), "PNG") for seed, name in enumerate("abcdefgh")}
BAD = {"i.png": "truncated PNG", "j.png": "empty file"}
NOTHING_ESCALATED = dict.fromkeys(ESCALATED, 0) | {"method": "tif", "calibration": None, "measured": None}
ALL = PICTURES | dict.fromkeys(BAD, b"")


class Page(HTMLParser):
    """A page taken apart. Fails where a tag is not closed, or closes another.

    Attributes:
        tags: every element in order, with its attributes.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def classes(self, tag):
        """How often which class is given to such elements."""
        return Counter(attributes.get("class") for name, attributes in self.tags if name == tag)


def page_of(run):
    path = ensure_report(run.store, RUN, run.job, keep=False)
    assert path is not None
    return Path(path).read_text(encoding="utf-8").replace("\u00a0", " ")


def pictures_in_cards(html):
    return html.count('<div class="picture"><img')


def test_the_page_has_every_group_and_every_number(tmp_path):
    html = page_of(WrittenRun(tmp_path, metrics=MEASURED).write(ALL, broken=BAD))
    page = Page(html)
    assert page.classes("figure") == {"card": 7, "card abstained": 1, "card unreadable": 2, None: 2}
    for title in ("Most certain", "Least certain", "Unreadable", "Labels", "What could not be read", "How it was made"):
        assert f">{title}</h" in html
    for messages in (
        "75.0 %",
        "12.5 %",
        "truncated PNG",
        "withheld below 0.30",
        "tip_adapter",
        "at most 20 %",
        "2 · max(1, spread of the logits",
        "What another max_error would label, by 12 held-out examples:",
        "87.5 %",
        "81.2 %",
    ):
        assert messages in html
    assert page.classes("circle") == {"dot": 2}
    assert pictures_in_cards(html) == len(PICTURES)
    assert html.count('<span class="example"><img') == len(CLASSES)


def test_the_most_certain_images_come_first(tmp_path):
    html = page_of(WrittenRun(tmp_path).write(PICTURES))
    assert re.findall(r'class="key"><bdi>(\w)\.png', html) == [*"abcd", *"hgfe"]


def test_without_scores_images_are_sorted_by_margin_and_no_number_is_shown(tmp_path):
    held_out = {"source": "text", "images": 3, "accuracy": 0.25, "ece_after": 0.0625}
    metrics = {"mean_score": None, "threshold": None, "held_out": held_out}
    run = WrittenRun(tmp_path, metrics=metrics, has_scores=False).write(PICTURES)
    html = page_of(run)
    assert re.findall(r'class="key"><bdi>(\w)\.png', html) == [*"abcd", *"hgfe"]
    assert "No label has a score: with one example of each class" in html
    assert 'class="score"' not in html
    assert "alibration error" not in html
    assert "Images by score" not in html


@pytest.mark.parametrize("kind", ["folder", "tar", "parquet"])
def test_pictures_are_found_again_in_any_kind_of_archive(tmp_path, kind):
    run = WrittenRun(tmp_path).write(ALL, kind=kind, broken=BAD)
    sample = draw_sample(run.store, read_run(run.store, RUN).prediction_parts(), "tip_adapter", has_scores=True)
    pictures = archive_pictures(run.job.archive, by_shard(sample.spots))
    assert {row.image: pictures[row.spot] for row in (*sample.sure, *sample.unsure)} == {
        key: thumbnail(data, side=96) for key, data in PICTURES.items()
    }


def test_the_same_run_gives_the_same_bytes_and_a_missing_report_is_made_anew(tmp_path):
    run = WrittenRun(tmp_path).write(ALL, broken=BAD)
    first = page_of(run)
    assert page_of(run) == first
    shutil.rmtree(Path(run.store.url(f"{RUN}/report")))
    found = find_reports(run.store.root)
    assert (found.complete, [report.run for report in found.reports]) == (True, ["by-hand"])
    assert Path(found.reports[0].path).read_text(encoding="utf-8").replace("\u00a0", " ") == first


def test_a_missing_archive_costs_only_the_pictures(tmp_path, caplog):
    run = WrittenRun(tmp_path).write(PICTURES)
    shutil.rmtree(tmp_path / "archive")
    (tmp_path / "examples.parquet").unlink()
    html = page_of(run)
    assert pictures_in_cards(html) == 0
    assert html.count("no picture") == len(PICTURES)
    assert [re.split(" found=| error=", record.message)[0] for record in caplog.records] == [
        "report without examples",
        "report without some pictures of=archive",
    ]


def test_a_changed_shard_is_not_shown(tmp_path):
    run = WrittenRun(tmp_path).write(PICTURES)
    os.utime(tmp_path / "archive" / "a.png", (1, 1))
    assert pictures_in_cards(page_of(run)) == 0


def test_a_run_of_broken_files_has_a_page(tmp_path):
    run = WrittenRun(tmp_path).write(dict.fromkeys(BAD, b""), broken=BAD)
    html = page_of(run)
    assert "Nothing could be read." in html
    assert Page(html).classes("figure")["card unreadable"] == len(BAD)


def test_trouble_is_logged_and_never_raised(tmp_path, caplog):
    run = WrittenRun(tmp_path).write(PICTURES)
    run.store.put(f"{RUN}/metrics.json", b"{}")
    assert ensure_report(run.store, RUN, run.job, keep=False) is None
    assert "no report run=runs/by-hand error=FormatError" in caplog.text
    found = find_reports(run.store.root).to_json()
    assert (found["complete"], found["reports"]) == (False, [{"run": "by-hand", "path": None}])


def test_unreadable_examples_are_shown_and_not_counted(tmp_path):
    missing = {"examples": 1, "such_as": ["a.png"], "classes": ["amber"]}
    found, whole = (
        page_of(WrittenRun(tmp_path / name, metrics=metrics).write(PICTURES))
        for name, metrics in (("found", {"unreadable_examples": missing}), ("whole", {}))
    )
    assert "1 example could not be read" in found
    assert "No example is left" in found
    assert "could not be read and left out" not in whole
    examples = [int(re.search(r"from (\d+) example", html)[1]) for html in (found, whole)]
    assert examples[0] == examples[1] - 1


def test_skipped_entries_are_counted_in_words():
    assert skipped_entries(1) == "1 entry was skipped, not an image by its name"
    assert skipped_entries(1200) == "1,200 entries were skipped, not images by their names"


def test_hostile_names_and_reasons_stay_text(tmp_path):
    key = '"><img src=x onerror=alert(1)>.png'
    missing = {"examples": 1, "such_as": [key], "classes": [HOSTILE]}
    skipped = {"skipped_entries": 1, "skipped_examples": [key], "unreadable_examples": missing}
    run = WrittenRun(tmp_path, classes=(HOSTILE, "b", "c"), metrics=skipped)
    html = page_of(run.write(PICTURES | {key: b""}, broken={key: HOSTILE}))
    page = Page(html)
    assert not {"script", "iframe", "object", "link"} & {tag for tag, _ in page.tags}
    assert {attributes["src"][:16] for tag, attributes in page.tags if tag == "img"} == {"data:image/webp;b"[:16]}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "&lt;script&gt;" in html


@example(text=HOSTILE)
@example(text="</bdi></main><style>*{display:none}")
@given(text=st.text(max_size=200))
def test_no_text_from_outside_becomes_markup_or_grows(text):
    page = render_sections("", [[element("p", outside(text, limit=80))]]).decode()
    html = page.partition("<section>")[2].partition("</section>")[0]
    assert {tag for tag, _ in Page(html).tags} <= {"p", "bdi", "wbr"}
    shown = unescape(re.sub(r"<[^>]*>", "", html)).strip("\n")
    assert len(shown) <= 80
    assert shown == text or len(text) > 80 or not text.isprintable()


def test_nothing_is_fetched_from_elsewhere(tmp_path):
    html = page_of(WrittenRun(tmp_path).write(ALL, broken=BAD))
    links = [attributes[name] for _, attributes in Page(html).tags for name in ("src", "href") if name in attributes]
    assert {link.partition("/")[0] for link in links} == {"data:image", ".."}
    assert not re.search(r"url\(|@import|https?:", html)
    assert "default-src 'none'" in html


def test_the_page_stays_small_whatever_is_in_it(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (2 * SHOWN + 12, 96, 96, 3), dtype=np.uint8)
    images = {f"{'k' * 190}{i:03}.png": encode(Image.fromarray(pixels), "PNG") for i, pixels in enumerate(noise)}
    broken = dict(list(zip(images, (f"{'reason' * 500} {chr(0x4E00 + i)}" for i in range(12)), strict=False)))
    run = WrittenRun(tmp_path, classes=tuple(f"{chr(0x1F300 + i)}" * 3000 for i in range(50)))
    html = page_of(run.write(images, broken=broken))
    assert pictures_in_cards(html) == 2 * SHOWN
    assert len(html.encode()) < 1_000_000


def test_without_examples_an_audit_is_named(tmp_path):
    held_out = {"source": "none", "images": 0, "accuracy": None}
    run = WrittenRun(tmp_path, metrics={"measured": None, "given_labels": None, "held_out": held_out}).write(PICTURES)
    known = "There are too few examples to estimate anything from: fewshot audit estimates how many labels are right."
    assert known in page_of(run)


def test_without_labels_the_numbers_are_of_the_examples(tmp_path):
    run = WrittenRun(tmp_path).write(PICTURES)
    html = page_of(run)
    assert "No labels of the archive were given to measure with" in html
    assert "estimated by cross-validation inside the 12 examples: accuracy 62.5 %" in html
    assert Page(html).classes("circle") == {}


@pytest.mark.parametrize(
    ("threshold", "messages"),
    [
        (None, "No label is withheld: the job sets no max_error."),
        (2.0, "No threshold can guarantee that at most 20 % of the labels given are wrong"),
        (
            0.25,
            "Labels below 0.25 are withheld so that at most 20 % of the labels given are wrong, with 90 % confidence",
        ),
    ],
)
def test_the_meaning_of_the_threshold_is_explained(tmp_path, threshold, messages):
    html = page_of(WrittenRun(tmp_path, metrics={"threshold": threshold}).write(PICTURES))
    assert messages in html
    assert ('class="threshold"' in html) == (threshold == 0.25)


def test_warnings_come_first(tmp_path):
    changes = {"complete": False, "failed_units": 2, "too_many_unreadable": True}
    html = page_of(WrittenRun(tmp_path, metrics=changes).write(PICTURES))
    assert html.index("2 units of work failed") < html.index("More images are unreadable") < html.index("Labelled")


@pytest.mark.parametrize("stored", [None, "elsewhere/classifiers/gda/1"])
def test_given_labels_of_a_stored_classifier_are_not_said_to_be_unused(tmp_path, monkeypatch, stored):
    run = WrittenRun(tmp_path, metrics=MEASURED)
    classifier = replace(run.job.classifier, from_=stored)
    monkeypatch.setattr(WrittenRun, "job", replace(run.job, classifier=classifier))
    html = page_of(run.write(ALL, broken=BAD))
    assert ("given and not trained on." in html) is (stored is None)


def test_labels_of_the_ledger_are_named(tmp_path, monkeypatch):
    run = WrittenRun(tmp_path)
    monkeypatch.setattr(WrittenRun, "job", replace(run.job, support=replace(run.job.support, labels=True)))
    assert "the ledger of the output" in page_of(run.write(ALL, broken=BAD))


def test_escalated_images_are_shown(tmp_path):
    changes = MEASURED | {"escalated": ESCALATED | {"measured": CASCADES}}
    run = WrittenRun(tmp_path, metrics=changes, escalated=("h.png", "a.png", "e.png")).write(ALL, broken=BAD)
    html = page_of(run)
    page = Page(html)
    assert re.findall(r'class="key"><bdi>(\w)\.png', html)[:3] == [*"hea"]  # h and e have changed
    assert page.classes("figure")["card escalated"] == 3
    assert page.classes("figure")["card"] + page.classes("figure")["card abstained"] == len(PICTURES) - 3
    assert pictures_in_cards(html) == len(PICTURES)
    for messages in (
        "62.5 %",
        "cheap method alone to this run",
        "25.0 % of an exhaustive schedule",
        "3 with trained adapters",
        "66.7 % of them",
        "Scores of what tif decided (3 images) are calibrated on 4 examples that it was not trained on.",
        "on 4 held-out examples",
    ):
        assert messages in html
    assert page.classes("circle") == {"dot": 2, "point": 3}
    assert (page.classes("rect")["for"], page.classes("rect")["against"]) == (7 + 7 + 2 * 1, 1 + 1 + 2)
    assert html.index("10–20 % of the time-steps: +0.31, mean of 3") < html.index(
        "10–20 % of the time-steps: +0.5, mean"
    )


def test_escalating_no_image_or_every_image_has_a_page(tmp_path):
    none = WrittenRun(tmp_path / "none", metrics={"escalated": NOTHING_ESCALATED})
    html = page_of(none.write(PICTURES))
    assert "tif scored no image" in html
    assert Page(html).classes("svg")[None] == 1
    uncalibrated = {"escalated": ESCALATED | {"calibration": None}}
    everything = WrittenRun(tmp_path / "all", metrics=uncalibrated, escalated=tuple(PICTURES))
    html = page_of(everything.write(PICTURES))
    assert "What tif decided (3 images) has no score, is in no chart here, and is under no guarantee." in html
    assert "No image that was read has a score." in html
    assert Page(html).classes("figure")["card escalated"] == len(PICTURES)


def test_names_of_escalated_images_stay_text(tmp_path):
    run = WrittenRun(tmp_path, classes=(HOSTILE, f"{HOSTILE}2"), metrics={"escalated": ESCALATED}, escalated=("a.png",))
    page = Page(page_of(run.write(PICTURES)))
    assert not {"script", "iframe", "object", "link"} & {tag for tag, _ in page.tags}


@given(st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 2)), min_size=10, max_size=10))
def test_bars_of_gaps_have_the_lengths_of_the_gaps(bins):
    gaps, counts = zip(*bins, strict=True)
    chart = gaps_by_time(gaps, counts)
    span = max(0.0, *gaps) - min(0.0, *gaps)
    messages = [gap for gap, count in bins if count]
    bars = list(chart.iter("rect"))
    assert [float(bar.get("height")) for bar in bars] == pytest.approx(
        [176.0 * abs(gap) / span if span else 0.0 for gap in messages], abs=0.1
    )
    zero = [float(bar.get("y")) + float(bar.get("height")) * (bar.get("class") == "for") for bar in bars]
    assert zero == pytest.approx([zero[0]] * len(bars) if bars else [], abs=0.2)
    for bar, gap in zip(bars, messages, strict=True):
        assert (bar.get("class") == "for") == (gap >= 0) or float(bar.get("height")) < 0.2


def test_the_curve_follows_the_accuracy_to_the_right_edge():
    chart = accuracy_by_cost([CurvePoint(0.0, 0.625), CurvePoint(30.0, 0.875), CurvePoint(60.0, 0.75)])
    (line,) = chart.iter("polyline")
    points = [tuple(map(float, point.split(","))) for point in line.get("points").split()]
    assert [x for x, _ in points] == [44.0, 227.0, 410.0]
    (_, first), (_, second), (_, third) = points
    assert first - second == pytest.approx(2 * (first - third), abs=0.2)
    assert accuracy_by_cost([CurvePoint(0.0, 1.0)]) is not None


def test_a_password_in_an_address_is_not_shown(tmp_path):
    run = WrittenRun(tmp_path).write(PICTURES)
    archive = replace(run.job.archive, uri="memory://user:secret@nowhere/photos?token=t0ken")
    path = ensure_report(run.store, RUN, replace(run.job, archive=archive), keep=False)
    html = Path(path).read_text(encoding="utf-8").replace("<wbr>", "")
    assert "memory://nowhere/photos" in html
    assert "secret" not in html
    assert "t0ken" not in html


@given(items=st.lists(st.integers().map(str), unique=True, max_size=50), count=st.integers(2, 8))
def test_sampled_parts_are_spread_evenly(items, count):
    chosen = evenly(items, count)
    places = [items.index(item) for item in chosen]
    gaps = {later - earlier for earlier, later in pairwise(places)}
    assert len(chosen) == min(len(items), count)
    assert not items or (places[0], places[-1]) == (0, len(items) - 1)
    assert not gaps or (min(gaps) >= 1 and max(gaps) - min(gaps) <= 1)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=20, max_size=20))
def test_the_bars_have_the_heights_of_the_counts(bins):
    ok, abstained = zip(*bins, strict=True)
    chart = histogram(ScoreHistogram(ok=ok, abstained=abstained), None)
    heights = {
        class_: sum(float(bar.get("height", 0)) for bar in chart.iter("rect") if bar.get("class") == class_)
        for class_ in ("ok", "abstained")
    }
    full = 176.0 / max(1, *(sum(bin_) for bin_ in bins))
    assert heights["ok"] == pytest.approx(full * sum(ok for ok, _ in bins), abs=2.0)
    assert heights["abstained"] == pytest.approx(full * sum(withheld for _, withheld in bins), abs=2.0)


def test_reasons_that_differ_in_a_number_are_one(tmp_path):
    bad = {"x.png": "too large: 900 bytes", "y.png": "empty file", "z.png": "too large: 80 bytes"}
    run = WrittenRun(tmp_path).write(PICTURES | dict.fromkeys(bad, b""), broken=bad)
    reasons = read_reasons(run.store, RUN)
    assert [(reason.text, reason.images) for reason in reasons] == [("too large: 900 bytes", 2), ("empty file", 1)]
    assert [broken.image for broken in some_of_each(reasons)] == ["x.png", "y.png", "z.png"]


def test_a_frequent_reason_does_not_crowd_out_the_others():
    frequent = Reason("a", 100, [Broken(f"a{i}", "a") for i in range(12)])
    rare = Reason("b", 1, [Broken("b0", "b")])
    assert [broken.image for broken in some_of_each([frequent, rare])][:3] == ["a0", "b0", "a1"]
    assert len(some_of_each([frequent, rare])) == 12


def test_only_shards_with_shown_images_are_read(tmp_path):
    read = []

    class Recorded:
        def __init__(self, name):
            self.name = name

        def read(self, *, threads, skipped):
            read.append(self.name)
            for key in "abc":
                read.append(f"{self.name}/{key}")
                yield Record(key, PICTURES["a.png"], None, "")

    class Recording:
        def shards(self):
            for name in ("one", "two", "three", "four"):
                read.append(f"list {name}")
                yield Shard(name, 3, Recorded(name))

    found = dict(of_archive(Recording(), {"two": {1: "b"}, "three": {0: "other"}}))
    assert list(found) == [Spot("two", 1)]
    assert read == ["list one", "list two", "two", "two/a", "two/b", "list three", "three", "three/a"]


@pytest.mark.parametrize("data", [None, b"", b"no image"])
def test_data_without_an_image_has_no_picture(data):
    assert thumbnail(data, side=96) is None


def test_classify_writes_the_report_once(finished):
    outcome = finished.classify()
    path = Path(outcome.result["report"])
    assert path == outcome.run / "report" / "index.html"
    html = path.read_text(encoding="utf-8")
    assert pictures_in_cards(html) >= 2
    assert "no picture" not in html
    assert Page(html).classes("svg")[None] == 3
    before = path.stat().st_mtime_ns
    assert fewshot("report", finished.job).result["reports"] == [{"run": outcome.run.name, "path": str(path)}]
    assert path.stat().st_mtime_ns == before
    path.unlink()
    assert fewshot("report", finished.output).code == 0
    assert path.read_text(encoding="utf-8") == html
