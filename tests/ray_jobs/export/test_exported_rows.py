"""Rows are filtered, counted and read in memory that does not grow with their number."""

from __future__ import annotations

import json
import shutil
import tracemalloc

import pyarrow as pa
import pytest
from PIL import Image

from fewshot.errors import UnknownNameError
from ray_jobs.errors import JobError
from ray_jobs.output.feature_parts import read_parquet, write_parquet
from tests.ray_jobs.export.exports import export, pictures, write_rows
from tests.ray_jobs.place import fewshot, picture, put
from tests.ray_jobs.written_run import RUN, WrittenRun
from tests.strange_files import encode

TINY = encode(Image.new("RGB", (2, 2)), "PNG")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    images = pictures(*(f"{index:02}.jpg" for index in range(10)))
    return WrittenRun(folder).write(images | {"zz.jpg": b"no"}, broken={"zz.jpg": "it is no image"})


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def exported(out):
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def test_each_skipped_row_counts_once(run, out):
    result = export(run, "jsonl", out, statuses=("ok", "abstained"), classes=("amber", "blue"), min_score=0.5)
    rows = exported(out)
    assert result.rows == len(rows)
    assert all(row["score"] >= 0.5 and row["label"] in ("amber", "blue") for row in rows)
    assert result.rows + sum(result.skipped.values()) == 11
    assert result.skipped["status"] == 1
    assert set(result.skipped) == {"status", "class", "min_score"}


def test_withheld_labels_count_by_their_best_guess(run, out):
    export(run, "jsonl", out, statuses=("abstained",), classes=("cyan",))
    rows = exported(out)
    assert rows
    assert {(row["label"], row["top_labels"][0]) for row in rows} == {(None, "cyan")}


def test_a_score_at_the_limit_passes(run, out):
    export(run, "jsonl", out)
    score = exported(out)[0]["score"]
    assert export(run, "jsonl", out, min_score=score, overwrite=True).rows == 1


def test_a_limit_is_rounded_as_scores_are(tmp_path, out):
    run = write_rows(tmp_path / "run", 100)  # Scores of 0.00, 0.01 and so on; 0.7 as a float32 is below 0.7.
    assert export(run, "csv", out, min_score=0.7).rows == 30


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"classes": ("ambre",)}, "unknown class 'ambre'. Did you mean 'amber'"),
        ({"statuses": ("okay",)}, "unknown status 'okay'. Did you mean 'ok'"),
    ],
)
def test_unknown_names_are_refused_with_near_ones(run, out, filters, message):
    with pytest.raises(UnknownNameError, match=message):
        export(run, "csv", out, **filters)
    assert not out.exists()


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_a_score_that_is_none_is_refused(run, out, score):
    with pytest.raises(JobError, match="from 0 to 1"):
        export(run, "csv", out, min_score=score)


def test_an_unknown_format_is_refused(run, out):
    with pytest.raises(UnknownNameError, match="Did you mean 'jsonl'"):
        export(run, "json", out)


def test_links_are_refused_where_there_are_none(run, out):
    with pytest.raises(JobError, match="--links"):
        export(run, "csv", out, links=True)


def test_images_that_are_gone_are_counted_and_named(tmp_path, out):
    images = pictures("a.jpg", "b.jpg", "c.jpg")
    run = WrittenRun(tmp_path / "run").write(images)
    put(run.folder / "archive" / "a.jpg", picture("cyan", 77) + b"more")
    result = export(run, "imagefolder", out, statuses=("ok", "abstained"))
    assert not result.complete
    assert result.rows + result.unreadable == 3
    assert "has changed since it was classified" in result.unreadable_such_as[0]


def test_an_image_with_another_key_is_not_taken_for_it(tmp_path, out):
    run = WrittenRun(tmp_path / "run").write(pictures("a.jpg", "b.jpg"))
    (part,) = run.store.list("predictions")
    table = read_parquet(run.store.get(part))
    swapped = table.set_column(0, table.schema.field("image"), pa.array(["b.jpg", "a.jpg"]))
    run.store.put(part, write_parquet(swapped))
    result = export(run, "imagefolder", out, statuses=("ok", "abstained"))
    assert (result.rows, result.unreadable) == (0, 2)


def test_an_archive_that_is_gone_is_an_error(tmp_path, out):
    run = WrittenRun(tmp_path / "run").write(pictures("a.jpg"))
    shutil.rmtree(run.folder / "archive")
    outcome = fewshot("export", run.store.url(RUN), "--to", "imagefolder", "--out", out)
    assert outcome.code == 2
    assert str(run.folder / "archive") in outcome.messages
    assert not out.exists()
    assert export(run, "csv", out).rows == 1


def test_a_run_of_which_all_is_abstained_exports_nothing_by_default(tmp_path, out):
    run = write_rows(tmp_path / "run", 0)
    assert export(run, "csv", out).rows == 0
    assert len(out.read_text().splitlines()) == 1


def peak_bytes(rows, folder):
    """Most memory that Python objects and Arrow's buffers take while a table is written."""
    run = write_rows(folder / "run", rows)
    pool = pa.default_memory_pool()
    tracemalloc.start()
    held = pool.bytes_allocated()
    assert export(run, "csv", folder / "out").rows == rows
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak, pool.bytes_allocated() - held


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_memory_does_not_grow_with_the_rows(tmp_path):
    few, _ = peak_bytes(10_000, tmp_path / "few")
    many, arrow = peak_bytes(100_000, tmp_path / "many")
    assert many < 1.2 * few
    assert arrow < 1 << 20


def peak_with_images(images, folder, to):
    run = WrittenRun(folder / "run", max_image_bytes=1 << 14).write(
        {f"{index:05}.png": TINY for index in range(images)}
    )
    tracemalloc.start()
    assert export(run, to, folder / "out", statuses=("ok", "abstained")).rows == images
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("to", ["coco", "imagefolder", "huggingface", "fiftyone", "labelstudio", "xmp"])
def test_memory_does_not_grow_with_the_images(tmp_path, to):
    peak_with_images(10, tmp_path / "warm", to)
    few = peak_with_images(1200, tmp_path / "few", to)
    held = 500  # Bytes: a third of a row. The names in a folder of the archive are held while it is listed.
    assert peak_with_images(2400, tmp_path / "many", to) < few + held * 1200
