"""Rows of predictions: one schema a run, no label where none is given, and a way back to the image."""

from __future__ import annotations

from dataclasses import replace

import fsspec
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch

from fewshot.inference.predict import Predictions
from fewshot.unknown import Decisions
from ray_jobs.output import predictions
from ray_jobs.output.predictions import (
    COLUMNS,
    PREDICTIONS_VERSION,
    SCHEMA,
    Column,
    EscalatedRow,
    PredictionOrigin,
    ScoredPart,
    best_guesses,
    build_predictions,
    prediction_format,
    prediction_schema,
    with_escalated,
)
from ray_jobs.output.runs import open_run
from tests.cluster.records.archives import tar_bytes
from tests.ray_jobs.place import CLASSES, fewshot, put

ORIGIN = PredictionOrigin(archive="/photos", archive_kind="folder")
ADDED = Column("length", pa.int64(), "Characters of the key.", lambda part: pa.array([len(key) for key in part.images]))


def part(abstained=(False, True), *, has_scores=True):
    """Three images, the second of which could not be read; scores of the other two."""
    scored = Predictions(
        label=torch.tensor([2, 0]),
        score=torch.tensor([0.75, 0.5]),
        margin=torch.tensor([0.5, 0.25]),
        top_labels=torch.tensor([[2, 1], [0, 2]]),
        top_scores=torch.tensor([[0.75, 0.25], [0.5, 0.25]]),
        abstained=torch.tensor(abstained),
    )
    return ScoredPart(
        images=["a.jpg", "b.jpg", "c.jpg"],
        sources=["", "1.tar", "2.tar"],
        errors=[None, "empty file", None],
        scored=scored,
        has_scores=has_scores,
        classes=CLASSES,
        method="ape",
        classifier="ape/0123456789abcdef",
    )


def test_a_row_has_a_label_only_where_its_status_is_ok():
    table = build_predictions(part(), ORIGIN)
    assert table.schema.equals(SCHEMA)
    assert table["status"].to_pylist() == ["ok", "unreadable", "abstained"]
    assert table["label"].to_pylist() == ["cyan", None, None]
    assert best_guesses(table) == ["cyan", None, "amber"]
    assert table["top_labels"].to_pylist() == [["cyan", "blue"], None, ["amber", "cyan"]]
    assert table["score"].to_pylist() == [0.75, None, 0.5]
    assert table["margin"].to_pylist() == [0.5, None, 0.25]
    assert table["top_scores"].to_pylist() == [[0.75, 0.25], None, [0.5, 0.25]]
    assert table["decided_by"].to_pylist() == ["ape", None, "ape"]
    assert table["source"].to_pylist() == ["", "1.tar", "2.tar"]
    assert table["classifier"].to_pylist() == ["ape/0123456789abcdef", None, "ape/0123456789abcdef"]
    assert table["error"].to_pylist() == [None, "empty file", None]


def test_probabilities_that_are_not_calibrated_are_null_and_margins_stay():
    scores, none = (build_predictions(part(has_scores=each), ORIGIN) for each in (True, False))
    assert none.schema.equals(scores.schema)
    assert none["score"].to_pylist() == none["top_scores"].to_pylist() == [None] * 3
    others = [name for name in scores.column_names if name not in ("score", "top_scores")]
    assert none.select(others).equals(scores.select(others))


def test_an_escalated_row_keeps_its_image_and_its_classifier():
    row = EscalatedRow(method="tif", labels=("blue", "amber"), scores=(0.5, 0.25), margin=0.125, abstained=False)
    before = build_predictions(part(), ORIGIN)
    after = with_escalated(before, {2: row, 0: replace(row, scores=None, abstained=True)})
    assert after.schema.equals(before.schema, check_metadata=True)
    assert after["label"].to_pylist() == [None, None, "blue"]
    assert after["status"].to_pylist() == ["abstained", "unreadable", "ok"]
    assert after["margin"].to_pylist() == [0.125, None, 0.125]
    assert best_guesses(after) == ["blue", None, "blue"]
    assert after["score"].to_pylist() == [None, None, 0.5]
    assert after["top_scores"].to_pylist() == [None, None, [0.5, 0.25]]
    assert after["decided_by"].to_pylist() == ["tif", None, "tif"]
    for name in ("image", "classifier", "error", "source"):
        assert after[name].to_pylist() == before[name].to_pylist()


def test_every_column_has_a_meaning_of_one_sentence_or_two():
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)
    assert all(column.meaning.endswith(".") and "\n" not in column.meaning for column in COLUMNS)


def test_the_metadata_of_a_part_say_where_it_comes_from():
    schema = build_predictions(part(), ORIGIN).schema
    assert PredictionOrigin.from_schema(schema) == ORIGIN
    assert schema.metadata[b"fewshot.format_version"] == str(PREDICTIONS_VERSION).encode()
    assert PredictionOrigin.from_schema(build_predictions(part()).schema) is None
    partial = {name: value for name, value in schema.metadata.items() if name != b"fewshot.archive_kind"}
    assert PredictionOrigin.from_schema(schema.with_metadata(partial)) is None


@pytest.mark.parametrize(
    ("kind", "archive", "image", "source", "url"),
    [
        ("folder", "/photos", "a/b.jpg", "", "/photos/a/b.jpg"),
        ("folder", "s3://bucket/photos/", "b.jpg", "", "s3://bucket/photos/b.jpg"),
        ("folder", "/photos", "new\\nline\\\\\\udcff.jpg", "", "/photos/new\nline\\\udcff.jpg"),
        ("folder", "/photos", "日本語.jpg", "", "/photos/日本語.jpg"),
        ("tar", "/photos", "a.jpg", "x/1.tar", "tar://a.jpg::/photos/x/1.tar"),
        ("tar", "s3://bucket/1.tar", "a.jpg", "1.tar", "tar://a.jpg::s3://bucket/1.tar"),
        ("tar", "/photos/2*/x-[0-9].tar", "a.jpg", "20/x-1.tar", "tar://a.jpg::/photos/20/x-1.tar"),
        ("parquet", "/tables", "17", "a.parquet", "/tables/a.parquet"),
        ("parquet", "/tables", "https://host/a.jpg", "a.parquet", "https://host/a.jpg"),
    ],
)
def test_an_image_is_found_by_the_metadata_and_its_row(kind, archive, image, source, url):
    assert replace(ORIGIN, archive=archive, archive_kind=kind).image_url(image, source) == url


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["folder", "tar"])
def test_the_images_of_a_run_are_read_by_their_urls(place, kept):
    if kept == "tar":
        files = sorted(path for path in place.archive.rglob("*") if path.is_file())
        members = [(path.relative_to(place.archive).as_posix(), path.read_bytes()) for path in files]
        put(place.folder / "tars/a.tar", tar_bytes(members))
        place.write_job(archive={"uri": str(place.folder / "tars")})
    run = open_run(str(place.classify().run))
    for row in run.predictions().table.select(["image", "source"]).to_pylist():
        with fsspec.open(run.image_url(row["image"], row["source"])) as file:
            assert file.read() == (place.archive / row["image"]).read_bytes()


def test_another_column_or_version_gives_another_format(monkeypatch):
    before = prediction_format()
    assert before == prediction_format()
    monkeypatch.setattr(predictions, "COLUMNS", (*COLUMNS, ADDED))
    added = prediction_format()
    monkeypatch.setattr(predictions, "COLUMNS", (replace(COLUMNS[0], type=pa.binary()), *COLUMNS[1:]))
    changed = prediction_format()
    monkeypatch.undo()
    monkeypatch.setattr(predictions, "PREDICTIONS_VERSION", PREDICTIONS_VERSION + 1)
    assert len({str(each) for each in (before, added, changed, prediction_format())}) == 4


@pytest.mark.slow
def test_a_resumed_run_never_has_two_schemas(place, monkeypatch):
    """Columns change between a run that was cut off and the next, and nobody raises the version."""
    first = place.classify()
    cut_off = first.parts
    for path in (*cut_off[2:], first.run / "metrics.json"):
        path.unlink()
    monkeypatch.setattr(predictions, "COLUMNS", (*COLUMNS, ADDED))
    second = place.classify()
    assert (second.code, second.result["complete"]) == (0, True)
    parts = second.parts
    assert {tuple(pq.read_schema(path).names) for path in parts} == {(*SCHEMA.names, "length")}
    assert len(parts) == len(cut_off)
    rows = ds.dataset(parts).to_table().to_pylist()
    assert {row["image"]: row["length"] for row in rows} == {row["image"]: len(row["image"]) for row in rows}
    assert len(rows) == second.result["images"] == 20
    assert first.parts == cut_off[:2]
    (run,) = (run for run in fewshot("status", place.output).result["runs"] if run["state"] == "complete")
    assert run["run"] == second.run.name


def test_an_unknown_image_has_no_label_whatever_its_score():
    tested = Decisions(torch.tensor([0.05, 0.5]), torch.tensor([True, False]))
    for abstained in (False, True):
        table = build_predictions(replace(part(abstained=(abstained, False)), tested=tested), ORIGIN)
        assert table.schema.equals(prediction_schema(unknown=True))
        assert table["status"].to_pylist() == ["unknown", "unreadable", "ok"]
        assert table["label"].to_pylist() == [None, None, "amber"]
        assert best_guesses(table) == ["cyan", None, "amber"]
        assert table["unknown_p_value"].to_pylist() == [pytest.approx(0.05), None, 0.5]


def test_a_run_with_the_test_of_unknown_images_has_names_of_its_own():
    assert prediction_format(unknown=True) != prediction_format()
    assert prediction_format(unknown=False) == prediction_format()
    assert prediction_schema() == SCHEMA
