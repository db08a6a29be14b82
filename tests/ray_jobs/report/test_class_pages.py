"""Pages of the classes beside a report: every image counted, a bounded number shown, whatever names are like."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.output.latest_runs import record_latest
from ray_jobs.output.predictions import SCHEMA
from ray_jobs.report import class_members, class_pages, ensure_report, find_reports
from ray_jobs.report.class_members import find_members, images_of_a_class
from ray_jobs.report.class_pages import page_name
from tests.ray_jobs.place import fewshot
from tests.ray_jobs.report.test_report import ALL, BAD, HOSTILE, PICTURES, Page
from tests.ray_jobs.written_run import CLASSES, MEASURED, RUN, WrittenRun

pytestmark = pytest.mark.slow
GIVEN = {f"{name}.png": CLASSES[place % 2] for place, name in enumerate("abcdefgh")}


def with_pages(run):
    """Write the report of a run with the pages of its classes, and return these by name."""
    record_latest(run.store, "by-hand", "classification", RUN)
    (report,) = find_reports(run.store.root, pages=True).reports
    folder = Path(report.classes).parent
    return {path.name: path.read_text(encoding="utf-8").replace("\u00a0", " ") for path in sorted(folder.iterdir())}


def keys(html):
    return re.findall(r'class="key"><bdi>(\w)\.png', html)


def test_every_class_has_a_page_of_its_images_by_certainty(tmp_path):
    run = WrittenRun(tmp_path, metrics=MEASURED, given=GIVEN).write(ALL, broken=BAD)
    pages = with_pages(run)
    assert list(pages) == ["0001-1.html", "0002-1.html", "0003-1.html", "index.html"]
    assert [keys(page) for page in pages.values()] == [["a", "d", "g"], ["b", "e", "h"], ["c", "f"], []]
    assert pages["0001-1.html"].count("<img") == 3
    assert "3 images" in pages["0001-1.html"]
    table = Page(pages["index.html"])
    links = [attributes["href"] for tag, attributes in table.tags if tag == "a"]
    assert links == ["../index.html", "0001-1.html", "0002-1.html", "0003-1.html"]
    assert "precision" in pages["index.html"]
    assert "50.0 %" in pages["index.html"]
    report = Path(run.store.url(f"{RUN}/report/index.html")).read_text(encoding="utf-8")
    assert 'href="classes/index.html"' in report


def test_the_same_run_gives_the_same_pages_and_a_later_report_keeps_the_link(tmp_path):
    run = WrittenRun(tmp_path).write(ALL, broken=BAD)
    assert "fewshot report --pages" in Path(ensure_report(run.store, RUN, run.job, keep=False)).read_text()
    assert with_pages(run) == with_pages(run)
    assert 'href="classes/index.html"' in Path(ensure_report(run.store, RUN, run.job, keep=False)).read_text()


def test_only_the_ends_of_a_large_class_are_shown_on_pages_that_lead_on(tmp_path, monkeypatch):
    monkeypatch.setattr(class_members, "OF_A_CLASS", 6)
    monkeypatch.setattr(class_pages, "PAGE", 4)
    monkeypatch.setattr(class_members, "BATCH", 3)
    names = "abcdefghijklmnop"
    run = WrittenRun(tmp_path, classes=("amber",)).write(dict.fromkeys([f"{name}.png" for name in names], b""))
    pages = with_pages(run)
    assert [keys(page) for page in pages.values()] == [["a", "b", "c", "n"], ["o", "p"], []]
    assert "Shown are the 3 most and the 3 least certain" in pages["0001-1.html"]
    assert ("The most certain" in pages["0001-2.html"], "The least certain" in pages["0001-2.html"]) == (False, True)
    assert ('rel="next"' in pages["0001-1.html"], 'rel="prev"' in pages["0001-2.html"]) == (True, True)
    assert "6 images could not be read again" not in pages["0001-1.html"]
    assert "4 images could not be read again" in pages["0001-1.html"]


@given(
    scores=st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.1, 0.5, 0.9])), max_size=60),
    part_rows=st.integers(1, 20),
    batch=st.integers(1, 40),
)
def test_what_is_kept_is_what_sorting_everything_would_keep(scores, part_rows, batch):
    rows = [
        {
            "image": f"{place:02}.png",
            "score": score,
            "margin": score,
            "top_labels": [f"class {label}"],
            "top_scores": [score],
            "decided_by": "gda",
            "status": "abstained" if score < 0.5 else "ok",
        }
        for place, (label, score) in enumerate(scores)
    ]
    tables = {
        f"predictions/part-{start}.parquet": SCHEMA.empty_table().from_pylist(rows[start : start + part_rows], SCHEMA)
        for start in range(0, len(rows), part_rows)
    }
    names = ["class 0", "class 1", "class 2"]  # Images of a class without a page are passed over.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_members, "view_table", lambda _, part, columns: tables[part].select(columns))
        patch.setattr(class_members, "OF_A_CLASS", 6)
        patch.setattr(class_members, "BATCH", batch)
        found = find_members(None, tables, names, has_scores=True)
    by_label = defaultdict(list)
    for row in sorted(rows, key=lambda row: -row["score"]):
        by_label[row["top_labels"][0]].append(row)
    for name, members in zip(names, found, strict=True):
        expected = by_label[name] if len(by_label[name]) <= 6 else by_label[name][:3] + by_label[name][-3:]
        assert [row.image for row in members.shown] == [row["image"] for row in expected]
        assert members.images == len(by_label[name])
        assert members.withheld == sum(row["status"] == "abstained" for row in by_label[name])
        if by_label[name]:
            mean = sum(row["score"] for row in by_label[name]) / len(by_label[name])
            assert members.mean_score == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize(("classes", "images"), [(1, 240), (50, 240), (100, 120), (2000, 6), (10**6, 6)])
def test_more_classes_have_fewer_images_each(classes, images):
    assert images_of_a_class(classes) == images


def test_classes_without_a_page_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(class_pages, "CLASSES", 2)
    pages = with_pages(WrittenRun(tmp_path).write(PICTURES))
    assert list(pages) == ["0001-1.html", "0002-1.html", "index.html"]
    table = re.sub(r"\s+", " ", pages["index.html"])
    assert "The 2 most frequent classes have pages; 1 other class of 2 images" in table


def test_a_run_that_is_not_complete_gets_no_pages(tmp_path, caplog):
    run = WrittenRun(tmp_path, metrics={"complete": False}).write(PICTURES)
    record_latest(run.store, "by-hand", "classification", RUN)
    (report,) = find_reports(run.store.root, pages=True).reports
    assert (report.path, report.classes) == (None, None)
    assert "is not complete. Run the job again" in caplog.text


def test_hostile_names_stay_text_on_the_pages(tmp_path):
    key = '"><img src=x onerror=alert(1)>.png'
    run = WrittenRun(tmp_path, classes=(HOSTILE, "../../b", "c\u202e"))
    pages = with_pages(run.write(PICTURES | {key: b""}))
    assert set(pages) == {"0001-1.html", "0002-1.html", "0003-1.html", "index.html"}
    for name, html in pages.items():
        page = Page(html)
        scripts = [tag for tag, _ in page.tags if tag == "script"]
        assert scripts == (["script"] if name == "index.html" else [])
        assert {attributes["src"][:10] for tag, attributes in page.tags if tag == "img"} <= {"data:image"}
        assert not [attribute for _, attributes in page.tags for attribute in attributes if attribute.startswith("on")]
        assert not [1 for _, attributes in page.tags if "style" in attributes]
        assert not re.search(r"url\(|@import|https?:", html)
        assert "default-src 'none'" in html


def test_verify_reads_the_pages_of_the_classes(tmp_path):
    run = WrittenRun(tmp_path).write(PICTURES)
    with_pages(run)
    (before,) = fewshot("verify", run.store.root).result["runs"]
    page = Path(run.store.url(f"{RUN}/report/classes/{page_name(1, 1)}"))
    page.write_bytes(page.read_bytes().replace(b"amber", b"AMBER"))
    (after,) = fewshot("verify", run.store.root).result["runs"]
    assert after["objects"] == before["objects"]
    assert [found["path"] for found in after["damaged"]] == [str(page)]
