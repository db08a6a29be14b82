"""Globs of images as archives."""

from __future__ import annotations

import fsspec
import pytest

from cluster import SourceError
from cluster.records import open_source
from cluster.records.base import EntryError
from cluster.records.location import Location
from cluster.records.patterns import archive_folder, folder_of_glob
from tests.cluster.records.archives import contents_of, tar_bytes, write_folder

FILES = {"a.jpg": b"1", "b.JPG": b"2", "c.png": b"3", "x/a.jpg": b"4", "x/y/b.jpg": b"5", "z1/a.jpg": b"6"}


@pytest.mark.parametrize(
    ("pattern", "keys"),
    [
        ("*.jpg", ["a.jpg"]),
        ("**/*.jpg", ["a.jpg", "x/a.jpg", "x/y/b.jpg", "z1/a.jpg"]),
        ("**/*.[jJ][pP][gG]", ["a.jpg", "b.JPG", "x/a.jpg", "x/y/b.jpg", "z1/a.jpg"]),
        ("**", list(FILES)),
        ("**/?.png", ["c.png"]),
        ("x/**/*.jpg", ["a.jpg", "y/b.jpg"]),
        ("*/a.jpg", ["x/a.jpg", "z1/a.jpg"]),
        ("[xz]?/*", ["z1/a.jpg"]),
    ],
)
def test_a_glob_matches_as_fsspec_does_and_keys_begin_behind_its_folder(tmp_path, pattern, keys):
    write_folder(tmp_path, FILES | {".hidden.jpg": b"", "x/.git/a.jpg": b"", "notes.txt": b""})
    source = open_source(f"{tmp_path}/{pattern}")
    assert source.kind == "glob"
    assert list(contents_of(source)) == keys
    folder = folder_of_glob(Location(f"{tmp_path}/{pattern}")).uri
    found = fsspec.filesystem("file").glob(f"{tmp_path}/{pattern}", detail=True)
    files = [path for path, info in found.items() if info["type"] == "file"]
    assert sorted(path for path in files if "/." not in path and not path.endswith(".txt")) == sorted(
        f"{folder}/{key}" for key in keys
    )


def test_a_glob_has_the_records_of_its_folder(tmp_path):
    write_folder(tmp_path, FILES)
    whole = [shard.fingerprint for shard in open_source(str(tmp_path)).shards()]
    assert [shard.fingerprint for shard in open_source(f"{tmp_path}/**").shards()] == whole


def test_sidecars_that_match_are_counted_and_what_does_not_match_is_nothing(tmp_path):
    write_folder(tmp_path, FILES | {"x/a.txt": b"", "a.txt": b""})
    source = open_source(f"{tmp_path}/x/**")
    list(source.shards())
    assert (source.skipped.count, source.skipped.examples) == (1, ["a.txt"])


def test_a_folder_that_is_not_entered_is_a_reason(tmp_path):
    write_folder(tmp_path, {"a/1.jpg": b"1", "b/2.jpg": b"2"})
    (tmp_path / "a/linked").symlink_to(tmp_path / "b")
    (tmp_path / "a/broken.png").symlink_to("nothing")
    contents = contents_of(f"{tmp_path}/**/*.jpg")
    assert "a symbolic link to a folder" in str(contents.pop("a/linked"))
    assert contents == {"a/1.jpg": b"1", "b/2.jpg": b"2"}


def test_an_archive_among_images_is_named(tmp_path):
    write_folder(tmp_path, {"a.jpg": b"1", "b.tar": tar_bytes([("c.jpg", b"2")])})
    contents = contents_of(f"{tmp_path}/**")
    assert "such as **/*.tar" in str(contents.pop("b.tar"))
    assert contents == {"a.jpg": b"1"}
    assert contents_of(f"{tmp_path}/**/*.tar") == {"c.jpg": b"2"}


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [("*.gif", "no file matches"), ("none/*.jpg", "not found"), ("**x/*.jpg", "not a glob"), ("*", "no file matches")],
)
def test_a_glob_of_nothing_is_refused(tmp_path, pattern, reason):
    write_folder(tmp_path, {"x/a.jpg": b"1"})
    with pytest.raises(SourceError, match=f"{reason}.*expected a folder of images, or .*or a glob of images"):
        open_source(f"{tmp_path}/{pattern}")


def test_the_folder_of_a_glob_is_what_precedes_its_wildcards(tmp_path):
    assert folder_of_glob(Location("/*/a.jpg")).uri == "/"
    assert folder_of_glob(Location("s3://bucket/a*/b")).uri == "s3://bucket"
    with pytest.raises(EntryError, match="bucket or host"):
        folder_of_glob(Location("s3://buck*/b"))
    (tmp_path / "c[1]").mkdir()
    assert archive_folder(f"{tmp_path}/c[1]") == f"{tmp_path}/c[1]"
    assert archive_folder(f"{tmp_path}/c[2]/*") == str(tmp_path)
    assert archive_folder(str(tmp_path)) == str(tmp_path)
