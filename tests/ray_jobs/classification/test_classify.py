"""Every image of an archive ends as exactly one row, whatever is broken; and the numbers told are those of the rows."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from ray_jobs.output.predictions import SCHEMA
from tests.ray_jobs.place import BROKEN, CLASSES, Place, picture, put, write_table
from tests.strange_files import write_strange_files
from tests.tiny_diffusion import write_tiny_diffusion

pytestmark = pytest.mark.slow


def failures(outcome):
    return pq.read_table(outcome.run / "failures.parquet").to_pylist()


def test_every_strange_file_becomes_one_row(place):
    shutil.rmtree(place.archive)
    place.archive.mkdir()
    expected = write_strange_files(place.archive)
    outcome = place.classify("archive.shard_images=8")
    assert outcome.code == 0
    assert outcome.rows.keys() == expected.keys()
    for image, reason in expected.items():
        row = outcome.rows[image]
        if reason is None:
            assert (row["status"], row["error"]) == ("ok", None), image
            assert row["label"] in CLASSES
        else:
            assert re.search(reason, row["error"]), f"{image}: {row['error']}"
            assert (row["status"], row["label"], row["score"], row["top_labels"]) == ("unreadable", None, None, None)
    messages = {(f["kind"], f["image"], f["error"]) for f in failures(outcome)}
    assert messages == {("image", image, row["error"]) for image, row in outcome.rows.items() if row["error"]}


def test_an_archive_of_broken_files_completes_and_is_reported(place):
    shutil.rmtree(place.archive)
    for name, data in BROKEN.items():
        put(place.archive / name, data)
    outcome = place.classify()
    assert outcome.code == 1
    assert f"every image is unreadable: {len(BROKEN)} of {len(BROKEN)}, mostly such as" in outcome.messages
    assert "check [archive] uri" in outcome.messages
    assert "Every image is unreadable" in Path(outcome.result["report"]).read_text(encoding="utf-8")
    assert [row["status"] for row in outcome.rows.values()] == ["unreadable"] * len(BROKEN)
    assert (outcome.result["ok"], outcome.result["mean_score"]) == (0, None)


def test_shards_of_broken_files_are_labelled_by_methods_that_pool(place):
    place.write_job(archive={"shard_images": 1}, classifier={"method": "safe"})
    outcome = place.classify()
    assert outcome.code == 0, outcome.messages
    assert {image for image, row in outcome.rows.items() if row["status"] == "unreadable"} == BROKEN.keys()


def test_too_many_unreadable_images_fail_the_job(place):
    assert place.classify().code == 0
    assert place.classify("archive.max_unreadable_fraction=0.05").code == 1
    assert place.classify("archive.max_unreadable_fraction=0.1").code == 0


def test_one_readable_image_is_enough_by_default(place):
    shutil.rmtree(place.archive)
    put(place.archive / "a.jpg", picture("blue", 1))
    put(place.archive / "b.jpg", b"broken")
    assert place.classify().code == 0


@pytest.mark.parametrize("name", ["photos.tar", "photos.zip", "photos.parquet", "photos.tar.gz"])
def test_a_web_page_in_place_of_an_archive_stops_the_job(place, name):
    put(place.folder / name, b"\n<!DOCTYPE html><html><body>Not found</body></html>")
    outcome = place.classify(f'archive.uri="{place.folder / name}"')
    assert outcome.code == 2
    assert f"{name}: an HTML or XML page in place of a" in outcome.messages


def test_rows_have_the_documented_columns_and_types(finished):
    outcome = finished.classify()
    assert ds.dataset(outcome.parts).schema.equals(SCHEMA)
    for image, row in outcome.rows.items():
        if row["status"] == "unreadable":
            continue
        assert row["status"] == "ok", image
        assert row["label"] == row["top_labels"][0]
        assert row["score"] == row["top_scores"][0]
        assert row["top_scores"] == sorted(row["top_scores"], reverse=True)
        assert sorted(row["top_labels"]) == sorted(CLASSES)
        assert np.isclose(row["margin"], row["top_scores"][0] - row["top_scores"][1])
        assert np.isclose(sum(row["top_scores"]), 1.0, atol=1e-5)
        assert row["decided_by"] == "tip_adapter"


def test_metrics_agree_with_the_rows(finished):
    outcome = finished.classify()
    truth = dict(line.split(",") for line in finished.truth.read_text().splitlines()[1:])
    hits = [row["label"] == truth[image] for image, row in outcome.rows.items() if row["label"]]
    measured = outcome.result["measured"]
    assert measured["labelled_images"] == len(hits) == len(truth)
    assert measured["accuracy"] == pytest.approx(sum(hits) / len(hits))
    assert outcome.result["images"] == len(truth) + len(BROKEN)
    stored = json.loads((outcome.run / "metrics.json").read_text())
    assert stored["measured"] == measured
    assert stored["labels"] == Counter(row["label"] for row in outcome.rows.values() if row["label"])


def test_the_reason_why_all_predictions_are_abstained_is_printed(place):
    outcome = place.classify("classifier.max_error=0.001")
    assert outcome.result["ok"] == 0
    assert "All predictions abstained: 6 held-out examples cannot guarantee an error rate of 0.1 %." in outcome.messages
    assert "Add examples (at least 2302 held-out ones, all labelled right) or raise max_error." in outcome.messages
    assert "All predictions abstained" not in place.classify().messages


def test_unreadable_examples_are_reported_and_not_counted(place):
    for label in ("amber", "blue"):
        put(place.examples / label / "0.jpg", b"no picture")
    for _ in ("trained", "found trained"):
        outcome = place.classify("support.skip_unreadable=true")
        shutil.rmtree(outcome.run)
        assert outcome.code == 0
        assert outcome.result["unreadable_examples"]["examples"] == 2
        assert outcome.result["unreadable_examples"]["classes"] == []
        assert "2 of the examples could not be read and were left out, such as amber/0.jpg" in outcome.messages


def test_unusable_ground_truth_labels_are_reported(place):
    write_table(place.truth, [("archive/photo_000.jpg", "amber"), ("photo_001.jpg", "Blue"), ("photo_002.jpg", "cyan")])
    outcome = place.classify(f"archive.labels={place.truth}")
    assert outcome.result["given_labels"] == {"given": 3, "found": 2, "of_other_classes": 1}
    assert outcome.result["measured"]["labelled_images"] == 1
    page = Path(outcome.result["report"]).read_text()
    for messages in (outcome.messages, page):
        assert "1 of 3 ground-truth labels match no image" in messages
        assert "1 ground-truth labels are of classes that the classifier does not have" in messages


def test_unmatched_labels_are_not_reported_as_missing(place):
    write_table(place.truth, [(f"archive/photo_00{i}.jpg", label) for i, label in enumerate(CLASSES)])
    outcome = place.classify(f"archive.labels={place.truth}")
    assert outcome.result["measured"] is None
    assert "No labels of the archive were given" not in Path(outcome.result["report"]).read_text()
    assert "3 of 3 ground-truth labels match no image" in outcome.messages


def test_changed_labels_are_measured_without_embedding(place):
    place.write_job(archive={"labels": str(place.truth)})
    before, features = place.classify().result, place.features()
    write_table(place.truth, ((f"photo_{index:03}.jpg", "amber" if index else "blue") for index in range(18)))
    after = place.classify().result
    assert after["did"] != "nothing"
    assert after["measured"]["accuracy"] != before["measured"]["accuracy"]
    assert place.features() == features


def test_abstained_rows_have_no_label_and_keep_their_best_guess(tmp_path, tiny_clip):
    place = Place(tmp_path, tiny_clip).fill(images=30, shots=12)
    place.write_job(archive={"labels": str(place.truth)}, support={"uri": str(place.examples), "views": 0})
    outcome = place.classify("classifier.max_error=0.3", "classifier.method=zero_shot")
    threshold = outcome.result["threshold"]
    rows = [row for row in outcome.rows.values() if row["status"] != "unreadable"]
    for row in rows:
        assert row["status"] == ("abstained" if row["score"] < threshold else "ok")
        assert row["label"] == (None if row["status"] == "abstained" else row["top_labels"][0])
        assert row["top_labels"][0] in CLASSES
    abstained = sum(row["status"] == "abstained" for row in rows)
    assert outcome.result["abstained"] == abstained > 0
    assert outcome.result["measured"]["coverage"] == pytest.approx(1 - abstained / len(rows))
    ground_truth = dict(line.split(",") for line in place.truth.read_text().splitlines()[1:])
    hits = [row["top_labels"][0] == ground_truth[row["image"]] for row in rows]
    assert outcome.result["measured"]["accuracy"] == pytest.approx(sum(hits) / len(hits))
    stored = json.loads((outcome.run / "metrics.json").read_text())
    assert stored["labels"] == Counter(row["top_labels"][0] for row in rows)


def test_classes_without_examples_and_broken_examples_are_accepted(place):
    put(place.examples / "broken.jpg", b"")
    rows = [(f"{label}/0.jpg", label) for label in CLASSES] + [
        ("broken.jpg", "blue"),
        ("", "empty"),
        ("no.jpg", "cyan"),
    ]
    table = write_table(place.examples / "examples.csv", rows)
    outcome = place.classify(f"support.uri={table}", "support.skip_unreadable=true")
    assert outcome.code == 0
    assert set(outcome.rows["photo_000.jpg"]["top_labels"]) == {*CLASSES, "empty"}


def test_class_names_alone_are_enough_for_zero_shot(place):
    table = write_table(place.folder / "names.csv", [("", label) for label in CLASSES])
    outcome = place.classify(f"support.uri={table}", "classifier.method=zero_shot")
    assert (outcome.code, len(outcome.rows)) == (0, 20)


def test_class_names_alone_are_not_enough_to_escalate(place):
    table = write_table(place.folder / "names.csv", [("", label) for label in CLASSES])
    (place.folder / "diffusion").mkdir()
    model = write_tiny_diffusion(place.folder / "diffusion")
    place.write_job(escalate={"model": str(model), "method": "diffusion_classifier"})
    outcome = place.classify(f"support.uri={table}", "classifier.method=zero_shot")
    assert outcome.code == 2
    assert "[escalate] needs examples, to choose its time-steps, and [support] has class names" in outcome.messages
    assert not place.output.exists()


def test_examples_that_are_all_unreadable_stop_the_job(place):
    for label in CLASSES:
        for example in (place.examples / label).iterdir():
            example.write_bytes(b"no picture")
    outcome = place.classify()
    assert (outcome.code, outcome.result) == (2, None)
    assert "none of the 6 examples could be read" in outcome.messages


def test_class_names_may_hold_slashes_accents_and_brackets(place):
    names = ["F/A-18", "crème brûlée", "[/red] 日本語"]
    rows = [(f"{label}/0.jpg", name) for label, name in zip(CLASSES, names, strict=True)]
    outcome = place.classify(f"support.uri={write_table(place.examples / 'examples.csv', rows)}")
    assert outcome.code == 0
    assert set(outcome.rows["photo_000.jpg"]["top_labels"]) == set(names)


def test_any_file_name_is_accepted(place):
    names = ["a [/bold] b.jpg", "línea\nnueva.jpg", "日本語.jpg", 'quote".jpg', "%20.jpg", "#1?.jpg"]
    for seed, name in enumerate(names):
        put(place.archive / name, picture("blue", seed))
    put(place.archive / "[/red].csv", b"a sidecar that is told about")
    outcome = place.classify()
    assert outcome.code == 0
    assert {name.replace("\n", "\\n") for name in names} <= {i for i, r in outcome.rows.items() if r["status"] == "ok"}


def test_an_archive_without_images_is_refused(place):
    shutil.rmtree(place.archive)
    place.archive.mkdir()
    put(place.archive / "notes.txt", b"soon")
    outcome = place.classify()
    assert (outcome.code, place.output.exists()) == (2, False)
    assert "[archive] uri: " in outcome.messages


def test_a_table_without_rows_is_an_empty_archive(place):
    pq.write_table(pa.table({"image": pa.array([], pa.binary())}), place.folder / "empty.parquet")
    outcome = place.classify(f"archive.uri={place.folder / 'empty.parquet'}")
    assert (outcome.code, outcome.result["images"]) == (0, 0)


def test_damaged_feature_parts_fail_only_their_units(place):
    whole = place.classify()
    parts = sorted(path for path in place.output.glob("features/*/*/*") if "examples-" not in str(path))
    damages = (b"", b"PAR1 this is no parquet", parts[2].read_bytes()[:-9])
    for part, damage in zip(parts, damages, strict=False):
        part.write_bytes(damage)
    broken = place.classify("classifier.method=zero_shot")
    assert (broken.code, broken.result["complete"], broken.result["failed_units"]) == (1, False, 3)
    units = [failure["image"] for failure in failures(broken) if failure["kind"] == "unit"]
    shards = [part.stem.removeprefix("part-") for part in parts[:3]]
    assert sorted(shards) == sorted(unit[-len(shards[0]) - len(".parquet") : -len(".parquet")] for unit in units)
    assert set() < broken.rows.keys() < whole.rows.keys()
    repaired = place.classify("classifier.method=zero_shot")
    assert (repaired.code, repaired.rows.keys()) == (0, whole.rows.keys())


def test_a_rerun_repairs_damaged_parts_of_examples(place):
    place.classify()
    part = min(place.output.glob("features/*/examples-1/*"))
    part.write_bytes(b"PAR1 this is no parquet")
    broken = place.classify("classifier.method=zero_shot")
    assert (broken.code, broken.result) == (1, None)
    assert "was damaged and is gone; run again" in broken.messages
    assert place.classify("classifier.method=zero_shot").code == 0


def test_a_rerun_repairs_damaged_classifiers_and_predictions(place):
    done = place.classify()
    run = done.run
    for damaged in (next(place.output.glob("classifiers/*/*/*.safetensors")), done.parts[0]):
        whole = damaged.read_bytes()
        damaged.write_bytes(whole[:40])
        (run / "metrics.json").unlink()
        broken = place.classify()
        assert (broken.code > 0, broken.result) == (True, None)
        assert "was damaged" in broken.messages
        assert place.classify().code == 0
        assert damaged.read_bytes() == whole


@pytest.mark.slow
def test_a_part_that_cannot_be_written_fails_one_unit(place):
    part = min(path for path in written_parts(place) if "examples-" not in str(path))
    shutil.rmtree(place.output)
    part.mkdir(parents=True)
    outcome = place.classify()
    assert (outcome.code, outcome.result["failed_units"]) == (1, 1)
    assert 0 < len(outcome.rows) < 20
    part.rmdir()
    assert (place.classify().code, len(place.classify().rows)) == (0, 20)


def written_parts(place):
    place.classify()
    return list(place.output.glob("features/*/*/*.parquet"))


def test_a_rerun_completes_an_archive_that_changed(place, monkeypatch):
    from ray_jobs.classification import classify as job

    listed = job.list_archive

    def list_then_change(source):
        listing = listed(source)
        put(place.archive / "late.jpg", picture("blue", 7))
        (place.archive / "photo_000.jpg").unlink()
        return listing

    monkeypatch.setattr(job, "list_archive", list_then_change)
    outcome = place.classify()
    assert (outcome.code, outcome.result["complete"]) == (1, False)
    monkeypatch.undo()
    again = place.classify()
    assert again.code == 0
    assert again.rows.keys() == outcome_of_a_fresh_run(place).rows.keys()
    assert "late.jpg" in again.rows


def outcome_of_a_fresh_run(place):
    return place.classify(f"job.output={place.folder / 'fresh'}")


def test_a_class_may_have_a_name_only(place):
    place.write_job(support={"classes": [{"label": "violet", "name": "a violet thing"}]})
    outcome = place.classify("classifier.top=4", "classifier.method=nearest_mean")
    assert outcome.code == 0
    row = outcome.rows["photo_000.jpg"]
    assert sorted(row["top_labels"]) == ["amber", "blue", "cyan", "violet"]


def test_examples_of_a_class_can_be_limited_to_none(place):
    def trained_on(**classes):
        place.write_job(support={"classes": [{"label": label, "examples": n} for label, n in classes.items()]})
        outcome = place.classify("classifier.method=nearest_mean")
        assert outcome.code == 0
        return json.loads((outcome.run / "plan.json").read_text())["examples"], outcome.rows

    everything, known = trained_on()
    fewer, _ = trained_on(blue=1)
    none, by_name = trained_on(blue=0)
    assert (everything, fewer, none) == (6, 5, 4)
    assert known != by_name


def test_mistakes_in_classes_are_reported_by_position(place):
    place.write_job(support={"classes": [{"label": "violet", "examples": -1}, {"name": "nothing"}]})
    outcome = place.classify()
    assert outcome.code == 2
    assert "classes.0" in outcome.messages
    assert "classes.1" in outcome.messages
