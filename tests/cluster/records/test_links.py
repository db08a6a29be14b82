"""Symbolic links in archives: followed inside, out of the archive only where that is allowed, and never unseen."""

from __future__ import annotations

import os
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster import SourceError
from cluster.errors import ChangedError
from cluster.records import open_source, read_shard
from tests.cluster.records.archives import contents_of, records_of, tar_bytes, write_folder, zip_bytes

CHANGED = "changed since it was listed; run again"
FOLLOW = "set archive.follow_links = true to follow it"


@pytest.fixture
def root(tmp_path):
    """An archive with one image, beside other folders."""
    return write_folder(tmp_path / "root", {"a.jpg": b"1"})


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def snapshot(folder, files):
    """A folder of links to files elsewhere that are named after their contents, as the Hub, DVC and git-annex make."""
    for number, (name, data) in enumerate(files.items()):
        write_folder(folder.parent / "store", {f"{number:040x}": data})
        link(folder / name, f"{'../' * name.count('/')}../store/{number:040x}")
    return folder


def fingerprints(folder):
    return [shard.fingerprint for shard in open_source(str(folder), follow_links=True).shards()]


@pytest.mark.parametrize("suffix", ["", ".tar", ".zip", ".parquet"])
def test_an_archive_of_links_is_refused_with_the_way_out_and_read_with_it(tmp_path, suffix):
    files = {"0/a.jpg": b"1", "b.jpg": b"2", "c.jpg": b"3"}
    if suffix == ".parquet":
        pq.write_table(pa.table({"image": list(files.values()), "key": list(files)}), tmp_path / "t")
        stored = {"0.parquet": (tmp_path / "t").read_bytes()}
    else:
        container = {".tar": tar_bytes, ".zip": zip_bytes}.get(suffix)
        stored = {f"x/0{suffix}": container(files.items())} if container else files
    folder = snapshot(tmp_path / "snapshot", stored)
    count = len(stored)
    with pytest.raises(SourceError, match=rf"{count} of {count} entries are symbolic links .*follow_links = true"):
        open_source(str(folder))
    assert contents_of(folder, follow_links=True) == files


def test_most_entries_being_links_is_enough_to_refuse_an_archive(root):
    write_folder(root.parent, {"b.jpg": b"2"})
    link(root / "b.jpg", "../b.jpg")
    link(root / "notes.txt", "../b.jpg")  # a sidecar, which does not count
    assert contents_of(root) == {"a.jpg": b"1", "b.jpg": f"a symbolic link out of the archive; {FOLLOW}"}
    link(root / "c.jpg", "../b.jpg")
    with pytest.raises(SourceError, match="2 of 3 entries"):
        contents_of(root)
    (root / "a.jpg").rename(root / "z.jpg")
    with pytest.raises(SourceError, match="2 of 3 entries"):  # When it is opened: the first entries are links.
        open_source(str(root))
    (root / "z.jpg").rename(root / "a.jpg")
    assert contents_of(root, follow_links=True) == {"a.jpg": b"1", "b.jpg": b"2", "c.jpg": b"2"}


def test_a_linked_folder_is_a_reason_or_is_entered(root):
    write_folder(root.parent, {"more/0/b.jpg": b"2", "more/.x/c.jpg": b"3", "more/d.txt": b"4"})
    link(root / "linked", "../more")
    assert contents_of(root)["linked"] == f"a symbolic link to a folder out of the archive; {FOLLOW}"
    assert contents_of(root, follow_links=True) == {"a.jpg": b"1", "linked/0/b.jpg": b"2"}


def test_a_linked_folder_beside_tars_is_a_reason_or_is_entered(tmp_path):
    write_folder(tmp_path / "root", {"0.tar": tar_bytes([("a.jpg", b"1")])})
    write_folder(tmp_path, {"more/1.tar": tar_bytes([("b.jpg", b"2")])})
    link(tmp_path / "root/more", "../more")
    assert "a symbolic link to a folder out" in str(contents_of(tmp_path / "root")["more"])
    assert contents_of(tmp_path / "root", follow_links=True) == {"a.jpg": b"1", "b.jpg": b"2"}


def test_no_folder_is_listed_twice_and_no_loop_is_entered(root):
    write_folder(root.parent, {"more/b.jpg": b"2", "more/deep/c.jpg": b"3"})
    for name, target in {
        "m": "../more",
        "n": "../more",
        "o": "../more/deep",
        "here": ".",
        "above": "..",
        "own": "sub",
        "../more/back": "../root",
        "../more/deep/up": "..",
    }.items():
        link(root / name, target)
    write_folder(root, {"sub/d.jpg": b"4"})
    contents = contents_of(root, follow_links=True)
    images = {key: data for key, data in contents.items() if isinstance(data, bytes)}
    assert images == {"a.jpg": b"1", "m/b.jpg": b"2", "m/deep/c.jpg": b"3", "sub/d.jpg": b"4"}
    assert set(contents) - set(images) == {"m/back", "m/deep/up", "n", "o", "here", "above", "own"}
    assert all("that the archive lists under another path" in contents[name] for name in set(contents) - set(images))


def test_a_folder_that_is_linked_before_the_one_around_it_is_listed_once(root):
    write_folder(root.parent, {"more/b.jpg": b"2", "more/deep/c.jpg": b"3"})
    link(root / "m", "../more/deep")
    link(root / "n", "../more")
    contents = contents_of(root, follow_links=True)
    assert [key for key, data in contents.items() if data == b"3"] == ["m/c.jpg"]
    assert "under another path" in contents["n/deep"]


def test_links_to_what_is_no_file_are_reasons_when_they_are_followed(root):
    os.mkfifo(root.parent / "pipe")
    targets = {"dead.jpg": "nothing", "itself.jpg": "itself.jpg", "pipe.jpg": "../pipe", "zero.jpg": "/dev/zero"}
    for name, target in targets.items():
        link(root / name, target)
    contents = contents_of(root, follow_links=True)
    assert contents.pop("a.jpg") == b"1"
    assert contents == {
        "dead.jpg": "a broken symbolic link",
        "itself.jpg": "a broken symbolic link",
        "pipe.jpg": "not a regular file",
        "zero.jpg": "not a regular file",
    }


@pytest.mark.parametrize("place", ["b.jpg", "root/b.jpg"])
def test_the_version_of_a_link_changes_with_the_link_and_with_its_target(root, place):
    target = write_folder(root.parent, {place: b"1", "root/.other": b"2"}) / place
    link(root / "x.jpg", os.path.relpath(target, root))
    os.utime(target, ns=(0, 0))
    before = fingerprints(root)
    assert fingerprints(root) == before
    os.utime(target, ns=(0, 1))
    changed = fingerprints(root)
    assert changed != before
    os.utime(root / ".other", ns=(0, 1))
    (root / "x.jpg").unlink()
    link(root / "x.jpg", ".other")
    assert fingerprints(root) != changed


def test_a_link_put_in_the_place_of_a_file_is_not_followed(root):
    write_folder(root, {"sub/b.jpg": b"2", "sub/deep/c.jpg": b"3", "d.jpg": b"4"})
    write_folder(root.parent, {"secret": b"5", "secrets/b.jpg": b"6", "secrets/deep/c.jpg": b"7"})
    link(root / "inside.jpg", "d.jpg")
    (shard,) = open_source(str(root)).shards()
    shard = pickle.loads(pickle.dumps(shard))
    assert {record.error for record in read_shard(shard)} == {None}
    (root / "a.jpg").unlink()
    link(root / "a.jpg", "../secret")
    (root / "sub").rename(root / ".sub")
    link(root / "sub", "../secrets")
    (root / "inside.jpg").unlink()
    link(root / "inside.jpg", "../secret")
    found = {record.key: record.error for record in read_shard(shard)}
    assert found == {
        "a.jpg": CHANGED,
        "d.jpg": None,
        "inside.jpg": CHANGED,
        "sub/b.jpg": CHANGED,
        "sub/deep/c.jpg": CHANGED,
    }


@pytest.mark.parametrize("is_linked", [False, True])
@pytest.mark.parametrize("part", ["x/0.tar", "x"])
def test_a_link_put_in_the_place_of_a_container_is_not_followed(tmp_path, part, is_linked):
    folder = write_folder(tmp_path / "root", {"x/0.tar": tar_bytes([("a.jpg", b"1")])})
    write_folder(tmp_path / "other", {"x/0.tar": tar_bytes([("a.jpg", b"2")])})
    if is_linked:
        (folder / "x/0.tar").rename(folder / ".stored")
        link(folder / "x/0.tar", "../.stored")
    (shard,) = open_source(str(folder)).shards()
    assert [record.data for record in read_shard(shard)] == [b"1"]
    (folder / part).rename(folder / ".moved")
    link(folder / part, tmp_path / "other" / part)
    with pytest.raises(ChangedError, match=rf"x/0\.tar {CHANGED}"):
        list(read_shard(shard))


def test_an_archive_that_is_itself_a_link_is_read(root):
    link(root.parent / "archive", "root")
    link(root.parent / "0.tar", "stored")
    (root.parent / "stored").write_bytes(tar_bytes([("a.jpg", b"1")]))
    assert contents_of(root.parent / "archive") == contents_of(root.parent / "0.tar") == {"a.jpg": b"1"}


def test_followed_links_are_read_in_another_process(root):
    write_folder(root.parent, {"b.jpg": b"2", "more/c.jpg": b"3"})
    link(root / "b.jpg", "../b.jpg")
    link(root / "more", "../more")
    source = open_source(str(root), follow_links=True)
    copies = [pickle.loads(pickle.dumps(shard)) for shard in source.shards()]
    assert [record for shard in copies for record in read_shard(shard)] == records_of(source)
