from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster import SourceError
from cluster.records import open_source
from cluster.secrets import without_credentials
from tests.cluster.records.archives import contents_of, tar_bytes, write_folder


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (["a.jpg"], "folder"),
        (["a"], "folder"),
        (["a.jpg", "b.json", "_SUCCESS"], "folder"),
        (["b.tar", "b.parquet", "b_stats.json", "_SUCCESS"], "tar"),
        (["sub/b.TGZ", "README"], "tar"),
        (["photos.tar/a.jpg"], "folder"),
    ],
)
def test_the_contents_of_a_folder_tell_its_kind(tmp_path, files, kind):
    assert open_source(str(write_folder(tmp_path, dict.fromkeys(files, b"")))).kind == kind


def test_a_folder_may_be_called_like_a_file_or_a_glob(tmp_path):
    for name in ("a.tar", "b.parquet", "c[1]*"):
        folder = write_folder(tmp_path / name, {"x.jpg": b"1"})
        assert contents_of(folder) == {"x.jpg": b"1"}


@pytest.mark.parametrize("name", ["tars [1]", "tars*", "tars?"])
def test_a_folder_of_tars_or_tables_may_be_called_like_a_glob(tmp_path, name):
    write_folder(tmp_path / name, {"0.tar": tar_bytes([("a.jpg", b"1")])})
    assert contents_of(tmp_path / name) == {"a.jpg": b"1"}
    (tmp_path / name / "0.tar").unlink()
    pq.write_table(pa.table({"image": [b"1"], "key": ["a.jpg"]}), tmp_path / name / "0.parquet")
    assert contents_of(tmp_path / name) == {"a.jpg": b"1"}


def test_a_folder_of_nothing_but_broken_links_is_not_empty(tmp_path):
    (tmp_path / "a.jpg").symlink_to("nothing")
    assert contents_of(tmp_path) == {"a.jpg": "a broken symbolic link"}


@pytest.mark.parametrize("files", [[], ["a.txt", ".hidden.jpg"]])
def test_a_folder_without_images_is_refused(tmp_path, files):
    write_folder(tmp_path, dict.fromkeys(files, b""))
    with pytest.raises(SourceError, match=r"no images.*expected a folder of images"):
        open_source(str(tmp_path))


@pytest.mark.parametrize("name", ["missing", "missing.tar", "*.tar", "a.jpg", "*.png", "*.csv", "x*/*"])
def test_what_is_no_archive_is_refused(tmp_path, name):
    write_folder(tmp_path, {"a.jpg": b"1"})
    with pytest.raises(SourceError, match="expected a folder of images"):
        open_source(str(tmp_path / name))


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "0.tar")
    with pytest.raises(SourceError):
        open_source(str(tmp_path / "0.tar"))


def test_a_shard_holds_at_least_one_record(tmp_path):
    with pytest.raises(SourceError, match="at least 1, got 0"):
        open_source(str(tmp_path), shard_records=0)


def test_credentials_are_never_shown(tmp_path):
    url = "memory://user:secret@host/photos?token=secret"
    with pytest.raises(SourceError) as caught:
        open_source(url)
    assert "secret" not in str(caught.value)
    assert without_credentials(f"GET {url} failed") == "GET memory://host/photos failed"


def test_tars_are_read_from_memory_as_from_disk(tmp_path):
    import fsspec

    data = tar_bytes([("a.jpg", b"1")])
    fsspec.filesystem("memory").pipe_file("/tars/0.tar", data)
    assert contents_of("memory://tars") == contents_of(write_folder(tmp_path, {"0.tar": data}))


@pytest.mark.parametrize(
    "head", [b"<!doctype html>", b"\xef\xbb\xbf\n<HTML lang=en>", b"<?xml version='1.0'?><Error>", b"<html>"]
)
def test_a_page_of_a_web_server_is_no_archive(tmp_path, head):
    (tmp_path / "a.tar").write_bytes(head + b"x" * 600)
    with pytest.raises(SourceError, match="an HTML or XML page in place of a tar file"):
        open_source(str(tmp_path / "a.tar"))


def test_a_damaged_archive_is_opened_and_its_damage_is_a_record(tmp_path):
    for name in ("a.tar", "a.zip"):
        (tmp_path / name).write_bytes(b"<htmlish" * 100)
        assert list(contents_of(tmp_path / name)) == [name]


@pytest.mark.parametrize("place", ["/proc", "/sys/class", "/dev", "/dev/fd/0", "/proc/self/maps.tar"])
def test_files_that_the_kernel_makes_up_are_no_archive(tmp_path, place):
    (tmp_path / "link").symlink_to(place)
    for uri in (place, str(tmp_path / "link"), f"{tmp_path}/../{tmp_path.name}/link/"):
        with pytest.raises(
            SourceError, match="are made up by the kernel and are no images; expected a folder of images"
        ):
            open_source(uri)


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no shared memory")
def test_an_archive_may_lie_in_shared_memory():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        write_folder(Path(folder), {"a.jpg": b"1"})
        assert contents_of(folder) == {"a.jpg": b"1"}
