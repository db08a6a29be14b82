"""A rerun finds what is done: nothing is embedded twice, and what changed is exactly what is redone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.ray_jobs.place import CLASSES, fewshot, picture, put, written

pytestmark = pytest.mark.slow

HEAVY = ("torch", "ray", "open_clip", "PIL.Image", "scipy")


def new(before, after):
    """What was written since; nothing that was there may have been touched."""
    assert {path: after.get(path) for path in before} == before
    return sorted(set(after) - set(before))


def archive_parts(paths):
    return [path for path in paths if "/examples-" not in path]


def test_a_finished_job_does_nothing_and_changes_no_file(finished):
    before = written(finished.folder)
    outcome = finished.classify()
    assert (outcome.code, outcome.result["did"]) == (0, "nothing")
    assert written(finished.folder) == before


def test_a_finished_job_is_recognised_without_torch_or_ray(finished):
    program = (
        "import sys\n"
        "from ray_jobs.commands.app import app\n"
        "try:\n"
        "    app(['classify', sys.argv[1]])\n"
        "finally:\n"
        f"    print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, finished.job], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"
    assert '"did": "nothing"' in done.stdout


def test_another_example_embeds_its_class_and_nothing_of_the_archive(place):
    first, before = place.classify(), place.features()
    put(place.examples / "blue/another.jpg", picture("blue", 77))
    second = place.classify()
    added = new(before, place.features())
    assert (len(added), archive_parts(added)) == (1, [])
    assert second.run != first.run
    assert first.run.exists()


def test_another_class_embeds_its_examples_and_nothing_else(place):
    place.classify()
    before = place.features()
    put(place.examples / "dark/0.jpg", picture("amber", 78))
    outcome = place.classify()
    added = new(before, place.features())
    assert (len(added), archive_parts(added)) == (1, [])
    assert set(outcome.rows["photo_000.jpg"]["top_labels"]) == {*CLASSES, "dark"}


def test_more_shots_keep_the_archive_and_another_method_keeps_everything(place):
    place.classify("support.shots=1")
    before = place.features()
    place.classify("support.shots=2")
    assert archive_parts(new(before, place.features())) == []
    before = place.features()
    outcome = place.classify("support.shots=2", "classifier.method=zero_shot")
    assert new(before, place.features()) == []
    assert {row["decided_by"] for row in outcome.rows.values() if row["label"]} == {"zero_shot"}


def test_a_changed_file_embeds_only_its_shard(place):
    file = place.archive / "photo_005x.jpg"
    before, labels = place.classify().rows, []
    for change in (lambda: put(file, picture("cyan", 500)), lambda: put(file, picture("amber", 501)), file.unlink):
        parts = place.features()
        change()
        after = place.classify().rows
        assert len(new(parts, place.features())) <= 2 < len(archive_parts(parts))
        assert after.keys() - {file.name} == before.keys()
        assert {i: after[i]["label"] for i in before} == {i: before[i]["label"] for i in before}
        labels.append(after.get(file.name, {}).get("score"))
    assert None not in labels[:2]
    assert labels[0] != labels[1]
    assert labels[2] is None


def test_other_weights_share_nothing(place):
    place.classify()
    before = place.features()
    place.classify("clip.precision=bf16")
    assert len(new(before, place.features())) == len(before)


def test_the_number_of_workers_does_not_name_the_run(finished):
    assert finished.classify("cluster.clip_workers=7", "cluster.cpus_per_worker=2").result["did"] == "nothing"


def test_a_moved_output_is_still_complete(place):
    first = place.classify()
    moved = place.folder / "moved"
    place.output.rename(moved)
    second = fewshot("classify", place.job, "--set", f"job.output={moved}")
    assert (second.result["did"], second.run.name) == ("nothing", first.run.name)
