"""`fewshot audit` on runs of jobs: as a user types it, and which images it leaves out."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from tests.ray_jobs.audit.answered_table import fill
from tests.ray_jobs.place import CLASSES, fewshot, write_table


def test_a_run_is_audited(copied):
    table = copied.folder / "audit.csv"
    first = fewshot("audit", str(copied.output), "--n", "30", "--table", str(table))
    assert (first.code, first.result["images"], first.result["unreadable"]) == (0, 18, 2)
    assert first.result["estimates"] is None
    assert "nothing is known about the accuracy" in first.messages
    assert f"fewshot review {copied.output} --screen {first.result['draw']}" in first.messages
    rows = fill(table)
    assert all(Path(row["url"]).exists() and row["reason"] == "audit" for row in rows)
    assert fewshot("labels", "import", str(copied.output), str(table)).result["written"] == 18
    second = fewshot("audit", str(copied.output))
    accuracy = second.result["estimates"]["accuracy"]
    assert accuracy["value"] == pytest.approx(accuracy["low"]) == pytest.approx(accuracy["high"])
    assert "right predictions" in second.messages
    run = Path(copied.output, "runs", second.result["run"])
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["audit"]["accuracy"] == accuracy
    assert (metrics["audit"]["draw"], metrics["audit"]["answered"]) == (second.result["draw"], 18)
    assert metrics["held_out"]["images"] > 0
    done = copied.classify()
    assert (done.result["did"], done.result["audit"]) == ("nothing", metrics["audit"])
    assert "by an audit of 18 of 18 images, right predictions" in done.messages
    assert fewshot("verify", str(copied.output)).code == 0
    empty = fewshot("audit", str(copied.output), "--table", str(copied.folder / "rest.csv"))
    assert "every image of the draw has an answer" in empty.messages
    again = fewshot("audit", str(copied.output), "--table", str(table))
    assert (again.code, again.result) == (2, None)
    assert "exists; name another file" in again.messages


def test_no_table_is_written_into_the_archive(copied):
    before = sorted(copied.archive.rglob("*"))
    inside = str(copied.archive / "new.csv")
    for words in (
        ("audit", copied.output, "--n", "30", "--table", inside),
        ("labels", "export", copied.output, inside),
        ("suggest", copied.output, "--n", "3", "--csv", inside),
        ("search", copied.output, "--image", copied.archive / "photo_000.jpg", "--csv", inside),
        ("export", copied.output, "--to", "csv", "--out", inside),
    ):
        done = fewshot(*words)
        assert done.code == 2, words
        assert "new.csv lies in the archive" in done.messages
    assert sorted(copied.archive.rglob("*")) == before


def test_examples_in_the_archive_are_left_out(copied):
    examples = copied.folder / "examples.csv"
    chosen = {f"archive/photo_{i:03}.jpg": CLASSES[i % len(CLASSES)] for i in range(6)}
    write_table(examples, chosen.items())
    copied.write_job(support={"uri": str(examples)})
    assert copied.classify().code == 0
    result = fewshot("audit", str(copied.output), "--n", "30").result
    assert (result["learned_from"], result["population"]) == (6, 12)


def test_labels_that_were_learned_from_are_left_out_and_later_ones_are_not(copied):
    table = copied.folder / "labels.csv"
    write_table(table, {f"photo_{i:03}.jpg": CLASSES[i % len(CLASSES)] for i in range(4)}.items())
    fewshot("labels", "import", str(copied.output), str(table))
    copied.write_job(support={"labels": True})
    assert copied.classify().code == 0
    write_table(table, {f"photo_{i:03}.jpg": CLASSES[i % len(CLASSES)] for i in range(4, 9)}.items())
    fewshot("labels", "import", str(copied.output), str(table))
    result = fewshot("audit", str(copied.output), "--n", "30").result
    assert (result["learned_from"], result["population"]) == (4, 14)


def test_labels_that_were_taken_back_after_the_run_are_left_out(copied):
    table = copied.folder / "labels.csv"
    write_table(table, {f"photo_{i:03}.jpg": CLASSES[i % len(CLASSES)] for i in range(4)}.items())
    fewshot("labels", "import", str(copied.output), str(table))
    copied.write_job(support={"labels": True})
    assert copied.classify().code == 0
    write_table(table, [("photo_000.jpg", "", "unknown")], ("image", "label", "answer"))
    assert fewshot("labels", "import", str(copied.output), str(table)).result["replaced"] == 1
    result = fewshot("audit", str(copied.output), "--n", "30").result
    assert (result["learned_from"], result["population"]) == (4, 14)


def test_an_audit_needs_no_examples(copied):
    shutil.rmtree(copied.examples)
    result = fewshot("audit", str(copied.output), "--n", "30")
    assert (result.code, result.result["learned_from"], result.result["notes"]) == (0, 0, [])


def test_answers_that_are_equal_to_earlier_ones_replace_nothing(copied):
    table, first = copied.folder / "audit.csv", copied.folder / "first.csv"
    fewshot("audit", str(copied.output), "--n", "30", "--table", str(table))
    rows = fill(table)
    write_table(first, [(row["image"], row["label"]) for row in rows[:4]])
    assert fewshot("labels", "import", str(copied.output), str(first)).result["written"] == 4
    done = fewshot("labels", "import", str(copied.output), str(table))
    assert [done.result[name] for name in ("written", "replaced", "repeated")] == [18, 0, 4]
    assert "4 of them are equal to an earlier answer" in done.messages
    assert "replace" not in done.messages


def test_a_newer_run_has_a_draw_of_its_own(copied):
    first = fewshot("audit", str(copied.output), "--n", "30", "--table", str(copied.folder / "audit.csv"))
    fill(copied.folder / "audit.csv")
    fewshot("labels", "import", str(copied.output), str(copied.folder / "audit.csv"))
    copied.write_job(classifier={"method": "nearest_mean"})
    assert copied.classify().code == 0
    second = fewshot("audit", str(copied.output), "--n", "30")
    assert second.result["draw"] != first.result["draw"]
    assert second.result["estimates"] is None
    assert "18 answers to another draw" in second.messages
    old = fewshot("audit", f"{copied.output}/runs/{first.result['run']}")
    assert old.result["answered"] == 18


def test_a_damaged_result_costs_neither_the_report_nor_another_audit(copied):
    table = copied.folder / "audit.csv"
    assert fewshot("audit", copied.output, "--table", table).code == 0
    fill(table)
    assert fewshot("labels", "import", copied.output, table).code == 0
    first = fewshot("audit", copied.output).result
    result = copied.output / "audits" / first["draw"] / "result.json"
    result.write_bytes(result.read_bytes()[:100])
    report = copied.output / "runs" / first["run"] / "report" / "index.html"
    report.unlink()
    assert fewshot("report", copied.output).code == 0
    assert "What an audit says" not in report.read_text()
    assert fewshot("audit", copied.output, "--seed", 1).code == 0
    assert fewshot("audit", copied.output).result == first
    assert "What an audit says" in report.read_text()


def test_images_that_labels_cannot_tell_apart_are_warned_of(place):
    tars = place.folder / "tars"
    tars.mkdir()
    for number in range(2):
        with tarfile.open(tars / f"{number}.tar", "w") as tar:
            for index in range(9):
                tar.add(place.archive / f"photo_{9 * number + index:03}.jpg", f"{index}.jpg")
    place.write_job(archive={"uri": str(tars / "*.tar")})
    assert place.classify().code == 0
    (note,) = fewshot("audit", place.output, "--n", 20).result["notes"]
    assert note.startswith("9 keys of the sample are not of one image alone, such as ")
