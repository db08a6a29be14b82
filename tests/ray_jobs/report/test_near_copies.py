"""Images that are nearly the same: one of them is shown among the most certain, and copies of examples are found."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.suggestion import herding
from ray_jobs.output.feature_parts import FeatureRows, encode
from ray_jobs.output.layout import Spot
from ray_jobs.output.runs import read_run
from ray_jobs.report import near_copies
from ray_jobs.report.example_rows import ExampleRows
from ray_jobs.report.image_sample import NEAR_DUPLICATE, Labelled, without_copies
from ray_jobs.report.near_copies import find_copies, find_leaks, read_directions, sampled_directions
from tests.ray_jobs.place import CLASSES, Place, fewshot
from tests.ray_jobs.report.test_report import PICTURES, page_of
from tests.ray_jobs.written_run import RUN, WrittenRun

pytestmark = pytest.mark.slow
NAMES = [f"{place:02}.png" for place in range(12)]


def unit(degrees):
    """The direction at an angle, on a circle: two are copies within 14 degrees."""
    angle = np.radians(degrees)
    return np.array([np.cos(angle), np.sin(angle)], np.float32)


def labelled(place):
    return Labelled(Spot("s", place), f"{place}.png", "a", 1.0 - place / 100, None, None, False)


def embedded_run(folder, degrees):
    """A run whose images have these directions; None could not be embedded."""
    run = WrittenRun(folder).write({NAMES[place]: PICTURES["a.png"] for place in range(len(degrees))}, kind="parquet")
    plan = read_run(run.store, RUN).plan
    views = np.array([[[0.0, 0.0] if angle is None else 3.0 * unit(angle)] for angle in degrees], np.float32)
    errors = [None if angle is not None else "damaged" for angle in degrees]
    (part,) = plan.features
    run.store.put(part, encode(FeatureRows(NAMES[: len(degrees)], [""] * len(degrees), errors, views)))
    return run, read_run(run.store, RUN)


def test_copies_are_what_suggestions_take_for_near_duplicates():
    assert NEAR_DUPLICATE == herding.NEAR_DUPLICATE


@given(degrees=st.lists(st.one_of(st.none(), st.integers(0, 359)), max_size=20), count=st.integers(1, 8))
def test_of_images_that_are_nearly_the_same_the_first_is_kept(degrees, count):
    directions = {Spot("s", place): unit(angle) for place, angle in enumerate(degrees) if angle is not None}
    kept, copies = [], 0
    for place, angle in enumerate(degrees):
        if len(kept) == count:
            break
        near = [other for other in kept if angle is not None and degrees[other] is not None]
        if any(unit(angle) @ unit(degrees[other]) > NEAR_DUPLICATE for other in near):
            copies += 1
        else:
            kept.append(place)
    chosen, passed = without_copies([labelled(place) for place in range(len(degrees))], directions, count)
    assert [row.spot.row for row in chosen] == kept
    assert passed == copies


def test_the_sheet_shows_one_of_the_copies_and_says_so(tmp_path):
    run, _ = embedded_run(tmp_path, [0, 1, 2, 90, 180, 270, 45, 46, 135, 225, 315, None])
    html = page_of(run)
    sheet = html.partition("A look at the archive")[2].partition("</section>")[0]
    assert "Left out: 3 images, nearly the same as one that is shown." in sheet
    assert [name for name in NAMES if name in sheet] == [NAMES[place] for place in (0, 3, 4, 5, 7, 8, 9, 10, 11)]
    copies = html.partition("Nearly the same</h2>")[2].partition("</section>")[0]
    assert "Of 11 images looked at, 5 (45.5 %) are nearly the same as another one" in copies
    assert copies.count("<tr>") == 1 + 2
    assert copies.count("<img") == 3 + 2


def test_groups_of_copies_are_those_of_their_first_image(tmp_path):
    run, found = embedded_run(tmp_path, [0, 10, 20, 100, 101, 102, 103, 200])
    copies = find_copies(run.store, found.prediction_parts(), sampled_directions(found))
    assert (copies.looked_at, copies.images, copies.sizes) == (8, 6, (4, 2))  # 20 degrees are too far from 0.
    assert [[each.image for each in group] for group in copies.groups] == [NAMES[3:7], NAMES[:2]]
    assert copies.groups[1][0].label == "amber"


def test_features_that_are_gone_or_damaged_cost_only_the_sections(tmp_path, caplog):
    run, found = embedded_run(tmp_path, [0, 1, 90])
    part = Path(run.store.url(found.plan.features[0]))
    part.write_bytes(part.read_bytes()[:-1])
    html = page_of(run)
    assert "Nearly the same" not in html
    assert "report without near copies" in caplog.text
    assert part.exists()
    part.unlink()
    assert page_of(run) == html
    assert read_directions(run.store, found.plan.features, []) == {}


def test_only_so_many_images_are_compared_with_the_examples(tmp_path, monkeypatch):
    _, found = embedded_run(tmp_path, [0, 0, 5, 90, None, 180, 181])
    features = np.stack([5.0 * unit(0), unit(180), unit(90), np.zeros(2)]).astype(np.float64)
    images = ("shots/a.png", "shots/b.png", "labels:0123:05.png", "zero.png")
    rows = ExampleRows(("x", "y"), images, np.array([0, 1, 1, 0]), features)
    leaks = find_leaks(found, rows, 7)
    assert (leaks.looked_at, leaks.images, leaks.same) == (6, 5, 3)
    assert [(leak.copy.image, leak.example, leak.given) for leak in leaks.shown] == [
        ("00.png", "shots/a.png", "x"),
        ("01.png", "shots/a.png", "x"),
        ("05.png", "shots/b.png", "y"),
        ("06.png", "shots/b.png", "y"),
        ("02.png", "shots/a.png", "x"),
    ]
    monkeypatch.setattr(near_copies, "PAIRS", 6)
    assert find_leaks(found, rows, 7).looked_at == 3
    monkeypatch.setattr(near_copies, "_TILE_PAIRS", 1)
    assert find_leaks(found, rows, 7).images == 3
    assert find_leaks(found, ExampleRows((), (), np.zeros(0, np.int64), np.zeros((0, 2))), 7) is None


def test_examples_in_the_archive_are_in_the_report_with_pictures(tmp_path, tiny_clip):
    place = Place(tmp_path, tiny_clip).fill(shots=2)
    source = next((place.examples / CLASSES[0]).iterdir())
    shutil.copy(source, place.archive / f"copy-of-{source.name}")
    outcome = place.classify()
    assert outcome.code == 0
    page = (outcome.run / "report" / "index.html").read_text()
    section = page.partition("Examples in the archive</h2>")[2].partition("</section>")[0].replace("<wbr>", "")
    assert f"copy-of-{source.name}" in section
    assert "1.0000" in section
    assert section.count("<img") >= 2
    (outcome.run / "report" / "index.html").unlink()
    fewshot("report", place.output)
    assert (outcome.run / "report" / "index.html").read_text() == page
