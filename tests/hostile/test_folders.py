"""Folders made to loop, to block or to change under the reader: every entry is one record, in the end."""

from __future__ import annotations

import os
import socket

from cluster.records import open_source, read_shard
from cluster.records.base import Shard, Skipped
from ray_jobs.inputs.archive import list_archive
from tests.cluster.records.archives import contents_of, write_folder


def test_sockets_and_links_to_devices_are_reasons(tmp_path, monkeypatch):
    write_folder(tmp_path, {"a.jpg": b"1"})
    monkeypatch.chdir(tmp_path)  # a socket's path may have 107 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s.jpg")
        for name, target in {"zero.jpg": "/dev/zero", "terminal.jpg": "/dev/tty", "self.jpg": "/proc/self/mem"}.items():
            (tmp_path / name).symlink_to(target)
        contents = contents_of(tmp_path)
    assert contents.pop("a.jpg") == b"1"
    assert contents.pop("s.jpg") == "not a regular file"
    assert set(contents.values()) <= {
        "a symbolic link out of the archive",
        "a symbolic link out of the archive; set archive.follow_links = true to follow it",
    }


def test_folders_deeper_than_a_path_may_be_long_come_to_an_end(tmp_path):
    write_folder(tmp_path, {"a.jpg": b"1"})
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(30):  # each step relative to the last: the whole path is longer than any call takes
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    contents = contents_of(tmp_path)
    assert contents.pop("a.jpg") == b"1"
    (reason,) = contents.values()
    assert "a folder that cannot be listed" in str(reason)


def test_what_vanishes_or_changes_its_kind_after_it_was_listed_is_a_reason(tmp_path):
    write_folder(tmp_path, dict.fromkeys(["folder.jpg", "gone.jpg", "loop.jpg", "pipe.jpg", "stays.jpg"], b"1"))
    (shard,) = open_source(str(tmp_path)).shards()
    for path in tmp_path.iterdir():
        if path.name != "stays.jpg":
            path.unlink()
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    assert {record.key: record.error for record in read_shard(shard)} == {
        "folder.jpg": "a folder, not a file",
        "gone.jpg": "not found",
        "loop.jpg": "too many levels of symbolic links",
        "pipe.jpg": "not a regular file",
        "stays.jpg": None,
    }


class Endless:
    """A source of very many shards. A hundred thousand stand for a million: what is held grows with their number."""

    uri, kind, identity, skipped = "stub", "folder", "0" * 16, Skipped()

    def shards(self):
        for number in range(100_000):
            yield Shard(f"{number:016x}", 256, None)


def test_a_listing_holds_a_line_for_each_shard_and_nothing_of_its_images():
    import tracemalloc

    tracemalloc.start()
    listing = list_archive(Endless())
    acquire_run, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert listing.images == 25_600_000
    assert acquire_run < 200 * 100_000
    assert peak < 300 * 100_000
