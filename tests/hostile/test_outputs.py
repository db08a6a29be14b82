"""What people open afterwards: names stay text in pages and spreadsheets, and nothing is written elsewhere."""

from __future__ import annotations

import csv
import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.report.evaluation_table import to_csv
from tests.ray_jobs.place import CLASSES, picture, put

FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", '=HYPERLINK("http://evil")']
MARKUP = "<script>alert(1)</script>"


def read_back(data: bytes) -> list[str]:
    return [row["class"] for row in csv.DictReader(io.StringIO(data.decode(), newline=""))]


@pytest.mark.parametrize("name", FORMULAS)
def test_no_cell_of_a_csv_is_a_formula(name):
    assert read_back(to_csv(pa.table({"class": [name], "accuracy": [-0.5]}))) == [f"'{name}"]


@given(names=st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1), min_size=1, max_size=5))
def test_any_class_name_comes_back_from_a_csv_but_for_one_apostrophe(names):
    for name, cell in zip(names, read_back(to_csv(pa.table({"class": names}))), strict=True):
        assert cell == (f"'{name}" if name[0] in "=+-@" else name)


def test_names_of_files_and_classes_stay_text_in_rows_and_in_the_page(place):
    labels = [f"{MARKUP[:-1]}", FORMULAS[0].replace("/", "|"), "ünï cöde"]
    for label, colour in zip(labels, CLASSES, strict=True):
        put(place.folder / "named" / label.replace("/", "∕") / "0.jpg", picture(colour, 7))
    put(place.archive / "'\"><img src=x onerror=alert(1)>.jpg", picture(CLASSES[0], 1))
    put(place.archive / "javascript:alert(1).svg", b"<svg onload='alert(1)' xmlns='http://www.w3.org/2000/svg'/>")
    place.write_job(support={"uri": str(place.folder / "named")})
    outcome = place.classify()
    assert outcome.code == 0
    rows = outcome.rows
    assert rows["javascript:alert(1).svg"]["status"] == "unreadable"
    assert "'\"><img src=x onerror=alert(1)>.jpg" in rows
    assert {row["label"] for row in rows.values()} - {None} <= {label.replace("/", "∕") for label in labels}
    page = (outcome.run / "report" / "index.html").read_text()
    assert "<script" not in page.lower()
    assert "<img src=x" not in page
    assert "<svg onload" not in page
    assert 'src="http' not in page


def test_an_output_that_a_link_leads_into_the_archive_is_refused(place):
    (place.folder / "link").symlink_to(place.archive)
    place.write_job(job={"output": str(place.folder / "link" / "results")})
    outcome = place.classify()
    assert outcome.code == 2
    assert "results would be taken for images" in outcome.messages
    assert not (place.archive / "results").exists()


def test_an_archive_that_a_link_leads_to_is_found_around_the_output(place):
    (place.folder / "link").symlink_to(place.archive)
    place.write_job(job={"output": str(place.archive / "results")}, archive={"uri": str(place.folder / "link")})
    assert place.classify().code == 2


def test_a_job_writes_below_its_output_and_nowhere_else(place):
    before = {path for path in place.folder.rglob("*") if not path.is_relative_to(place.output)}
    assert place.classify().code == 0
    assert {path for path in place.folder.rglob("*") if not path.is_relative_to(place.output)} == before
