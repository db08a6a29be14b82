from __future__ import annotations

import os
import pickle

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import StorageError
from cluster.records import open_source, read_shard, reading
from tests.cluster.faulty import fails, faults, instant_retry
from tests.cluster.records.archives import contents_of, records_of, write_folder

IMAGES = {"a/x.jpg": b"1", "a-b.jpg": b"2", "a.jpg": b"3", "b/c/d/no_suffix": b"", "é.png": b"5"}
NAMES = st.sampled_from(["a", "b", "a-", "a.b", "Z", "é", "~"])


@pytest.fixture
def impatient(monkeypatch):
    """Storage is given up at once."""
    monkeypatch.setattr(reading, "RETRY", instant_retry())


def test_every_file_is_a_record_in_the_order_of_whole_paths(tmp_path):
    assert contents_of(write_folder(tmp_path, IMAGES)) == IMAGES
    assert [record.key for record in records_of(tmp_path)] == sorted(IMAGES, key=str.encode)


@given(paths=st.sets(st.lists(NAMES, min_size=1, max_size=3).map("/".join), min_size=1))
def test_any_file_system_lists_in_the_order_of_whole_paths(paths):
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    files = {path + ".jpg" for path in paths}
    for path in files:
        filesystem.pipe_file(f"/root/{path}", b"x")
    assert [record.key for record in records_of("memory://root")] == sorted(files, key=str.encode)


def test_hidden_files_and_sidecars_are_skipped_and_counted(tmp_path):
    write_folder(tmp_path, {"a.jpg": b"1", "a.json": b"", ".hidden.jpg": b"", ".git/x.jpg": b"", "b/._a.jpg": b""})
    source = open_source(str(tmp_path))
    for _ in range(2):
        assert list(contents_of(source)) == ["a.jpg"]
        assert source.skipped.count == 4
        assert set(source.skipped.examples) == {"a.json", ".hidden.jpg", ".git/", "b/._a.jpg"}


def test_links_and_what_is_no_file_become_reasons(tmp_path):
    root = write_folder(tmp_path / "root", {"a/x.jpg": b"1"})
    write_folder(tmp_path, {"secret": b"2"})
    os.mkfifo(root / "pipe")
    for name, target in {
        "inside": "a/x.jpg",
        "outside": "../secret",
        "to_folder": "a",
        "loop": ".",
        "dead": "nothing",
        "itself": "itself",
        "chain": "outside",
    }.items():
        (root / name).symlink_to(target)
    contents = contents_of(root)
    assert contents.pop("a/x.jpg") == contents.pop("inside") == b"1"
    assert contents == {
        "pipe": "not a regular file",
        "outside": "a symbolic link out of the archive; set archive.follow_links = true to follow it",
        "chain": "a symbolic link out of the archive; set archive.follow_links = true to follow it",
        "to_folder": "a symbolic link to a folder",
        "loop": "a symbolic link to a folder",
        "dead": "a broken symbolic link",
        "itself": "a broken symbolic link",
    }


def test_a_file_that_turned_into_a_pipe_is_not_waited_for(tmp_path):
    (shard,) = open_source(str(write_folder(tmp_path, {"a.jpg": b"1", "b.jpg": b"2"}))).shards()
    (tmp_path / "a.jpg").unlink()
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").unlink()
    assert [record.error for record in read_shard(shard)] == ["not a regular file", "not found"]


def test_names_of_any_bytes_are_read_under_printable_keys(tmp_path):
    names = [b"\xff.jpg", b"\\udcff.jpg", b"a\nb.jpg", b"\x1b[31m.jpg", b"a b?#*[1].jpg"]
    for number, name in enumerate(names):
        (tmp_path / os.fsdecode(name)).write_bytes(b"%d" % number)
    contents = contents_of(tmp_path)
    assert sorted(contents.values()) == [b"0", b"1", b"2", b"3", b"4"]
    assert all(key.isprintable() for key in contents)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    contents = contents_of(write_folder(tmp_path, {"a.jpg": b"1234", "b.jpg": b"12345"}), max_bytes=4)
    assert contents == {"a.jpg": b"1234", "b.jpg": "too large: 5 bytes, at most 4 are read"}


def test_a_file_that_grew_since_it_was_listed_is_not_read(tmp_path):
    (shard,) = open_source(str(write_folder(tmp_path, {"a.jpg": b"1"})), max_bytes=4).shards()
    (tmp_path / "a.jpg").write_bytes(b"12345")
    assert [record.error for record in read_shard(shard)] == ["too large: 5 bytes, at most 4 are read"]


def test_a_file_that_changed_since_it_was_listed_is_not_read(tmp_path):
    write_folder(tmp_path, {"a.jpg": b"1", "b.jpg": b"2"})
    (shard,) = open_source(str(tmp_path)).shards()
    (tmp_path / "a.jpg").write_bytes(b"another")
    outcomes = [(record.data, record.error) for record in read_shard(shard)]
    assert outcomes == [(None, "changed since it was listed; run again"), (b"2", None)]


def test_a_change_renames_the_shards_around_it_and_no_other(tmp_path):
    write_folder(tmp_path, {f"{number:04d}.jpg": b"x" for number in range(300)})
    source = open_source(str(tmp_path), shard_records=8)
    before = {shard.fingerprint for shard in source.shards()}
    assert {shard.fingerprint for shard in source.shards()} == before
    (tmp_path / "0150.jpg").write_bytes(b"changed")
    changed = {shard.fingerprint for shard in source.shards()}
    assert len(before - changed) == len(changed - before) == 1
    (tmp_path / "0100b.jpg").write_bytes(b"new")
    assert len({shard.fingerprint for shard in source.shards()} - changed) <= 4


def test_shards_survive_pickling_and_are_small(tmp_path):
    write_folder(tmp_path, {f"{number:04d}.jpg": b"x" * 10_000 for number in range(256)})
    for shard in open_source(str(tmp_path)).shards():
        sent = pickle.dumps(shard)
        assert len(sent) < 200 * shard.size + 1000
        assert list(read_shard(pickle.loads(sent), threads=1)) == list(read_shard(shard, threads=7))


def test_the_same_place_has_the_same_fingerprint_however_it_is_written(tmp_path, monkeypatch):
    write_folder(tmp_path, IMAGES)
    monkeypatch.chdir(tmp_path.parent)
    ways = [str(tmp_path), f"{tmp_path}/", tmp_path.name, f"./{tmp_path.name}", f"file://{tmp_path}"]
    assert len({open_source(way).fingerprint for way in ways}) == 1
    assert open_source(str(tmp_path / "a")).fingerprint != open_source(ways[0]).fingerprint


def test_storage_that_fails_for_a_moment_is_retried():
    with faults(read=[fails(ConnectionResetError("cut")), None, fails(TimeoutError())]) as filesystem:
        for key in ("a.jpg", "b.jpg"):
            filesystem.pipe_file(f"/r/{key}", b"x")
        assert contents_of("faulty://r") == {"a.jpg": b"x", "b.jpg": b"x"}


def test_storage_that_stays_away_is_not_held_against_the_image(impatient):
    with faults(read=[fails(OSError("reset by s3://user:secret@host/r?X-Amz-Signature=secret"))] * 99) as filesystem:
        filesystem.pipe_file("/r/a.jpg", b"x")
        (shard,) = open_source("faulty://r").shards()
        with pytest.raises(StorageError, match=r"a\.jpg.*run again") as caught:
            list(read_shard(shard))
        assert "secret" not in str(caught.value)


def test_what_is_gone_or_forbidden_is_held_against_the_image():
    with faults(read=[fails(FileNotFoundError("a")), fails(PermissionError("b"))]) as filesystem:
        for key in ("a.jpg", "b.jpg"):
            filesystem.pipe_file(f"/r/{key}", b"x")
        (shard,) = open_source("faulty://r").shards()
        assert [record.error for record in read_shard(shard, threads=1)] == ["not found", "permission denied"]


def test_a_folder_that_cannot_be_listed_is_a_record_of_its_own():
    with faults() as filesystem:
        for key in ("a/x.jpg", "b/x.jpg"):
            filesystem.pipe_file(f"/r/{key}", b"x")
        source = open_source("faulty://r")
        filesystem.plan["list"] = [None, fails(PermissionError("a"))]
        assert contents_of(source) == {
            "a": "a folder that cannot be listed: permission denied",
            "b/x.jpg": b"x",
        }


def test_a_listing_that_breaks_off_raises_instead_of_ending_early(impatient):
    with faults() as filesystem:
        filesystem.pipe_file("/r/a/x.jpg", b"x")
        source = open_source("faulty://r")
        filesystem.plan["list"] = [None, *[fails(OSError("reset"))] * 99]
        with pytest.raises(StorageError):
            list(source.shards())
