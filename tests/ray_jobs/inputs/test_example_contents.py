"""Examples come first: broken ones stop a job before any work, all of them named, or are skipped with a warning."""

from __future__ import annotations

import logging
import os

import pytest

from cluster.errors import ChangedError
from cluster.records import Selected, Selection, content_digest, read_shard
from fewshot.classes import LabelSpace
from fewshot.errors import SHOWN
from ray_jobs.errors import JobError
from ray_jobs.inputs import example_contents
from ray_jobs.inputs.example_blocks import Examples
from ray_jobs.inputs.example_contents import ExampleContents
from ray_jobs.inputs.examples import Labels, by_class
from tests.ray_jobs.place import CLASSES, fewshot, picture, put, write_table

SPACE = LabelSpace(("a", "b"), ("a", "b"), ("", ""))


def labels_of(folder, names, *, of_second=0):
    """Examples of two classes: the last `of_second` are of the second."""
    return Labels(SPACE, str(folder), tuple(names), tuple(int(i >= len(names) - of_second) for i in range(len(names))))


def stopped(labels, *, skip=False):
    with pytest.raises(JobError) as caught:
        ExampleContents.read(labels).check(skip=skip)
    (message,) = caught.value.problems
    return message


def test_every_broken_example_is_named_with_place_and_reason(tmp_path):
    whole = picture("amber", 1)
    put(tmp_path / "fine.jpg", whole)
    put(tmp_path / "cut.jpg", whole[: len(whole) // 2])
    put(tmp_path / "text.jpg", b"no picture")
    put(tmp_path / "folder.jpg/x", b"")
    names = ["fine.jpg", "cut.jpg", "text.jpg", "folder.jpg", "sub/missing.jpg"]
    message = stopped(labels_of(tmp_path, names, of_second=1))
    first, *lines, last = message.splitlines()
    assert first == "[support] 4 of the 5 examples cannot be read:"
    assert lines[0].startswith(f"  {tmp_path}/cut.jpg (a): truncated JPEG")
    assert lines[1] == f"  {tmp_path}/folder.jpg (a): a folder, not a file"
    assert lines[2] == f"  {tmp_path}/sub/missing.jpg (b): not found"
    assert lines[3].startswith(f"  {tmp_path}/text.jpg (a): ")
    assert last == "Repair or remove them, or set support.skip_unreadable = true to go on without them."


def test_of_many_broken_examples_the_first_are_named_and_all_counted(tmp_path):
    message = stopped(labels_of(tmp_path, [f"{i:03}.jpg" for i in range(SHOWN + 3)]))
    assert message.startswith(f"[support] none of the {SHOWN + 3} examples could be read:")
    assert message.count("not found") == SHOWN
    assert "  … and 3 more" in message


def test_skipped_examples_are_named_with_what_is_left_of_their_class(tmp_path, caplog):
    for name in ("0.jpg", "1.jpg", "3.jpg"):
        put(tmp_path / name, picture("amber", 1))
    labels = labels_of(tmp_path, ["0.jpg", "1.jpg", "2.jpg", "3.jpg"], of_second=1)
    with caplog.at_level(logging.WARNING):
        ExampleContents.read(labels).check(skip=True)
    assert caplog.messages == ["skipped 1 unreadable examples: 2.jpg (not found); left are 2 of 3 of a"]


def test_a_class_without_a_readable_example_is_not_skipped(tmp_path):
    put(tmp_path / "0.jpg", picture("amber", 1))
    message = stopped(labels_of(tmp_path, ["0.jpg", "1.jpg"], of_second=1), skip=True)
    assert "No readable example is left of b. Repair one of each class" in message


def test_one_image_under_two_names_is_not_learned_as_two_classes(tmp_path):
    same = picture("amber", 1)
    for name, data in {"0.jpg": same, "1.jpg": same, "2.jpg": same, "3.jpg": picture("amber", 2)}.items():
        put(tmp_path / name, data)
    ExampleContents.read(labels_of(tmp_path, ["0.jpg", "1.jpg", "3.jpg", "gone.jpg"], of_second=2)).check_labels()
    with pytest.raises(JobError) as caught:
        ExampleContents.read(labels_of(tmp_path, ["0.jpg", "3.jpg", "2.jpg"], of_second=1)).check_labels()
    assert "0.jpg (a) and 2.jpg (b)\nRemove it from one of them." in str(caught.value)


def test_contents_beyond_a_limit_are_identified_and_not_held(tmp_path, monkeypatch):
    for name in ("0.jpg", "1.jpg"):
        put(tmp_path / name, picture("amber", int(name[0])))
    monkeypatch.setattr(example_contents, "DECODED_BYTES", len(picture("amber", 0)))
    contents = ExampleContents.read(labels_of(tmp_path, ["0.jpg", "1.jpg"]))
    assert set(contents.kept) == {"0.jpg"}
    assert contents.digests == {name: content_digest((tmp_path / name).read_bytes()) for name in ("0.jpg", "1.jpg")}
    contents.check(skip=False)
    assert not contents.kept


def examples_of(folder):
    labels = labels_of(folder, ["0.jpg", "1.jpg"])
    return Examples.from_contents(ExampleContents.read(labels), labels, by_class(labels), features="features", views=0)


def test_examples_are_identified_by_content_and_not_by_size_or_time(tmp_path):
    contents = {"x": [b"one", b"two"], "y": [b"one", b"six"], "same": [b"one", b"two"]}
    for folder, files in contents.items():
        for number, data in enumerate(files):
            put(tmp_path / folder / f"{number}.jpg", data)
            os.utime(tmp_path / folder / f"{number}.jpg", ns=(0, 0 if folder != "same" else 10**9))
    x, y, same = (examples_of(tmp_path / folder) for folder in contents)
    assert x.identity != y.identity
    assert x.contents != y.contents
    assert (x.identity, x.contents) == (same.identity, same.contents)


@pytest.mark.parametrize("change", [lambda path: path.write_bytes(b"two"), lambda path: path.unlink()])
def test_an_example_that_changed_is_not_read_under_its_old_identity(tmp_path, change):
    put(tmp_path / "0.jpg", b"one")
    shard = Selection(str(tmp_path)).shard([Selected.by_content("0.jpg", content_digest(b"one"))])
    assert [record.data for record in read_shard(shard)] == [b"one"]
    change(tmp_path / "0.jpg")
    with pytest.raises(ChangedError, match=r"0\.jpg changed since it was listed; run again"):
        list(read_shard(shard))


def test_an_example_that_appears_is_not_read_as_the_missing_one(tmp_path):
    shard = Selection(str(tmp_path)).shard([Selected.by_content("0.jpg", "")])
    assert [record.error for record in read_shard(shard)] == ["not found"]
    put(tmp_path / "0.jpg", b"one")
    with pytest.raises(ChangedError):
        list(read_shard(shard))


def test_a_test_image_of_another_size_is_not_read_as_the_old_one(tmp_path):
    put(tmp_path / "0.jpg", b"one")
    selection = Selection(str(tmp_path))
    shard = selection.shard(selection.look_up(["0.jpg"]))
    put(tmp_path / "0.jpg", b"three")
    with pytest.raises(ChangedError):
        list(read_shard(shard))


def test_all_three_commands_name_broken_examples_before_any_work(place, monkeypatch):
    put(place.examples / "amber/0.jpg", b"")
    monkeypatch.setattr("ray_jobs.classification.classify.list_archive", lambda _: pytest.fail("the archive is listed"))
    for command in ("classify", "plan"):
        outcome = fewshot(command, place.job)
        assert (outcome.code, outcome.result, place.output.exists()) == (2, None, False)
        assert (
            f"error: [support] 1 of the 6 examples cannot be read:\n  {place.examples}/amber/0.jpg" in outcome.messages
        )
    model = f"clip.model={place.clip}"
    drafted = fewshot("init", place.archive, place.examples, "--job", place.folder / "new.toml", "--set", model)
    assert drafted.code == 0
    assert "1 example cannot be read, such as amber/0.jpg: empty file. They stop the job" in drafted.messages


def test_a_missing_example_of_a_table_is_looked_for_beside_the_table(place):
    rows = [(f"{label}/0.jpg", label) for label in CLASSES] + [("amber/gone.jpg", "amber")]
    outcome = place.classify(f"support.uri={write_table(place.examples / 'examples.csv', rows)}")
    assert outcome.code == 2
    assert f"{place.examples}/amber/gone.jpg (amber): not found" in outcome.messages
