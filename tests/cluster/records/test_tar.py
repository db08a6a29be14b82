from __future__ import annotations

import gc
import gzip
import re
import tarfile
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import ChangedError
from cluster.records import Skipped, open_source, read_shard, tar_links
from tests.cluster.faulty import faults
from tests.cluster.records.archives import contents_of, records_of, tar_bytes, write_folder

IMAGES = {"0/a.jpg": b"a" * 700, "0/b.png": b"b" * 1300, "c": b"", "d" * 200 + ".jpg": b"d"}


def special(name: str, kind: bytes, **fields: object) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type = kind
    for field, value in fields.items():
        setattr(header, field, value)
    return header


def contents_of_bytes(data: bytes, name: str = "0.tar", **options: object) -> dict[str, bytes | str]:
    with faults() as filesystem:
        filesystem.pipe_file(f"/r/{name}", data)
        return contents_of(f"faulty://r/{name}", **options)


@pytest.mark.parametrize(("name", "mode"), [("0.tar", "w"), ("0.tar.gz", "w:gz"), ("0.tgz", "w:gz"), ("0.tar", "w:gz")])
def test_every_member_is_a_record(tmp_path, name, mode):
    (tmp_path / name).write_bytes(tar_bytes(IMAGES.items(), mode=mode))
    assert contents_of(tmp_path / name) == IMAGES
    assert {record.source for record in records_of(tmp_path)} == {name}


def test_a_tar_is_a_shard_and_a_folder_of_tars_an_archive(tmp_path):
    tars = {f"{number}/shard.tar": tar_bytes([(f"./{number}.jpg", b"x")]) for number in range(3)}
    write_folder(tmp_path, tars | {"0/shard_stats.json": b"{}", "0/shard.parquet": b"", ".tmp.tar": b""})
    source = open_source(str(tmp_path))
    assert source.kind == "tar"
    assert len(list(source.shards())) == 3
    assert [(record.key, record.source) for record in records_of(source)] == [
        ("0.jpg", "0/shard.tar"),
        ("1.jpg", "1/shard.tar"),
        ("2.jpg", "2/shard.tar"),
    ]
    assert source.skipped.count == 3
    assert contents_of(f"{tmp_path}/[01]/*.tar") == {"0.jpg": b"x", "1.jpg": b"x"}


def test_sidecars_and_hidden_members_are_skipped_and_counted(tmp_path):
    names = ["a.jpg", "a.txt", "a.json", "._a.jpg", ".DS_Store"]
    (tmp_path / "0.tar").write_bytes(tar_bytes([special("folder", tarfile.DIRTYPE), *((name, b"x") for name in names)]))
    (shard,) = open_source(str(tmp_path)).shards()
    skipped = Skipped()
    assert [record.key for record in read_shard(shard, skipped=skipped)] == ["a.jpg"]
    assert skipped == Skipped(4, ["a.txt", "a.json", "._a.jpg", ".DS_Store"])


def test_members_that_lead_out_of_the_archive_are_refused(tmp_path):
    members = [
        ("../up.jpg", b"x"),
        ("a/../../up.jpg", b"x"),
        ("/etc/up.jpg", b"x"),
        special("link.jpg", tarfile.SYMTYPE, linkname="/etc/passwd"),
        special("hard.jpg", tarfile.LNKTYPE, linkname="a.jpg"),
        special("device.jpg", tarfile.CHRTYPE),
        special("pipe.jpg", tarfile.FIFOTYPE),
        ("a.jpg", b"fine"),
    ]
    folder = write_folder(tmp_path / "archive", {"0.tar": tar_bytes(members)})
    contents = contents_of(folder)
    assert contents.pop("a.jpg") == b"fine"
    assert sorted(set(contents.values())) == [
        "a hard link to a.jpg, which is not before it in this tar",
        "a link, not a file",
        "not a regular file",
        "the name points outside the archive",
    ]
    assert len(contents) == 7
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["0.tar", "archive"]


def test_a_key_that_comes_twice_gives_two_records(tmp_path):
    (tmp_path / "0.tar").write_bytes(tar_bytes([("a.jpg", b"1"), ("a.jpg", b"2")]))
    assert [record.data for record in records_of(tmp_path)] == [b"1", b"2"]


@given(share=st.floats(0, 1, exclude_max=True), mode=st.sampled_from(["w", "w:gz"]))
def test_a_tar_that_is_cut_off_gives_its_complete_members_and_one_reason(share, mode):
    data = tar_bytes(IMAGES.items(), mode=mode)
    contents = contents_of_bytes(data[: int(share * len(data))])
    reason = contents.pop("0.tar", None)
    assert list(contents.items()) == list(IMAGES.items())[: len(contents)]
    if reason is None:
        assert contents == IMAGES
        assert mode == "w"  # cut in the padding behind the mark at the end
    else:
        assert re.match(r"0\.tar is damaged or cut off, .* cannot be read: \w+", reason)


def test_every_member_before_the_cut_is_there():
    data = tar_bytes(IMAGES.items())
    assert list(contents_of_bytes(data[: 512 + 1024])) == ["0/a.jpg", "0.tar"]
    assert list(contents_of_bytes(data[: 512 + 1024 + 512 + 1299])) == ["0/a.jpg", "0.tar"]
    assert list(contents_of_bytes(data[: 512 + 1024 + 512 + 1536])) == ["0/a.jpg", "0/b.png", "0.tar"]


def test_a_damaged_header_ends_the_tar_with_a_reason():
    data = bytearray(tar_bytes(IMAGES.items()))
    data[512 + 1024 + 100 : 512 + 1024 + 108] = b"\xffgarbage"
    contents = contents_of_bytes(bytes(data))
    assert list(contents) == ["0/a.jpg", "0.tar"]
    assert "what follows 0/a.jpg cannot be read" in contents["0.tar"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"garbage" * 1000, "invalid header"),
        (gzip.compress(b"garbage" * 1000, mtime=0), "invalid header"),
        (tar_bytes([("a.jpg", b"1")]) * 2, "more data follows"),
    ],
)
def test_what_is_no_tar_is_one_reason(data, reason):
    assert reason in contents_of_bytes(data)["0.tar"]


def test_tars_that_cannot_be_opened_are_a_reason_each(tmp_path):
    write_folder(tmp_path, {"1.tar": tar_bytes([("a.jpg", b"1")])})
    (tmp_path / "0.tar").symlink_to("nothing.tar")
    assert contents_of(tmp_path) == {"0.tar": "a broken symbolic link", "a.jpg": b"1"}


def test_a_member_that_is_too_large_is_skipped_without_holding_it():
    big = 40 << 20
    bomb = gzip.compress(tar_bytes([("big.jpg", bytes(big)), ("a.jpg", b"1")]), compresslevel=1)
    tracemalloc.start()
    try:
        contents = contents_of_bytes(bomb, "0.tar.gz", max_bytes=1 << 20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert contents == {"big.jpg": f"too large: {big} bytes, at most {1 << 20} are read", "a.jpg": b"1"}
    assert peak < big / 2


def test_a_name_that_claims_to_be_enormous_is_refused():
    header = special("x", tarfile.GNUTYPE_LONGNAME, size=1 << 40)
    contents = contents_of_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    assert "name of 1099511627776 bytes" in contents["0.tar"]


def test_members_that_were_read_are_not_kept_in_memory(tmp_path):
    (tmp_path / "0.tar").write_bytes(tar_bytes([(f"{number}.jpg", b"x") for number in range(200)]))
    (shard,) = open_source(str(tmp_path)).shards()
    records = read_shard(shard)
    for _ in range(190):
        next(records)
    gc.collect()
    # Asking for the type, not the class: some libraries keep proxies that warn when they are looked at.
    assert sum(type(thing) is tarfile.TarInfo for thing in gc.get_objects()) < 5


@pytest.mark.parametrize("how", ["replaced", "rewritten", "cut"])
def test_a_tar_that_changes_while_it_is_read_is_not_mixed(tmp_path, how):
    old, new = (tar_bytes((f"{i}.jpg", char * (3 << 20)) for i in range(4)) for char in (b"o", b"n"))
    path = tmp_path / "0.tar"
    path.write_bytes(old)
    (shard,) = open_source(str(path)).shards()
    records = read_shard(shard)
    assert set(next(records).data) == set(b"o")
    if how == "replaced":
        (tmp_path / "1.tar").write_bytes(new)
        (tmp_path / "1.tar").rename(path)
    else:
        path.write_bytes(new if how == "rewritten" else old[:-1])
    with pytest.raises(ChangedError, match=r"0.tar changed since it was listed; run again"):
        list(records)


def hard_link(name, target):
    return special(name, tarfile.LNKTYPE, linkname=target)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_hard_link_has_the_content_of_the_member_that_it_names(mode):
    members = [
        ("./s/a.jpg", b"a" * 700),
        ("s/b.jpg", b"b" * 1300),
        (".hidden.jpg", b"h"),
        hard_link("t/b.jpg", "./s/b.jpg"),
        hard_link("t/a.jpg", "s/a.jpg"),
        ("c.jpg", b"c"),
        hard_link("u/a.jpg", "t/a.jpg"),
        hard_link("h.jpg", ".hidden.jpg"),
        ("s/a.jpg", b"new"),
        hard_link("v/a.jpg", "s/a.jpg"),
        hard_link("x.txt", "s/b.jpg"),
    ]
    records = list(contents_of_records(tar_bytes(members, mode=mode)))
    assert records == [
        ("s/a.jpg", b"a" * 700),
        ("s/b.jpg", b"b" * 1300),
        ("t/b.jpg", b"b" * 1300),
        ("t/a.jpg", b"a" * 700),
        ("c.jpg", b"c"),
        ("u/a.jpg", b"a" * 700),
        ("h.jpg", b"h"),
        ("s/a.jpg", b"new"),
        ("v/a.jpg", b"new"),
    ]


def contents_of_records(data, **options):
    with faults() as filesystem:
        filesystem.pipe_file("/r/0.tar", data)
        yield from ((record.key, record.data or record.error) for record in records_of("faulty://r/0.tar", **options))


def test_hard_links_that_gnu_tar_makes_are_read(tmp_path):
    import subprocess

    folder = write_folder(tmp_path / "s", {"a.jpg": b"1", "b.jpg": b"2"})
    (folder / "c.jpg").hardlink_to(folder / "a.jpg")
    command = ["tar", "-cf", str(tmp_path / "0.tar"), "-C", str(folder), "a.jpg", "b.jpg", "c.jpg"]
    subprocess.run(command, check=True)
    assert contents_of(tmp_path / "0.tar") == {"a.jpg": b"1", "b.jpg": b"2", "c.jpg": b"1"}


def test_a_hard_link_that_cannot_be_read_is_a_reason_that_names_the_member():
    members = [
        ("big.jpg", b"x" * 9),
        special("link.jpg", tarfile.SYMTYPE, linkname="big.jpg"),
        hard_link("0.jpg", "gone.jpg"),
        hard_link("1.jpg", "/etc/hostname"),
        hard_link("2.jpg", "link.jpg"),
        hard_link("3.jpg", "big.jpg"),
        hard_link("4.jpg", "4.jpg"),
        hard_link("../5.jpg", "big.jpg"),
    ]
    contents = contents_of_bytes(tar_bytes(members), max_bytes=8)
    assert contents == {
        "big.jpg": "too large: 9 bytes, at most 8 are read",
        "link.jpg": "a link, not a file",
        "0.jpg": "a hard link to gone.jpg, which is not before it in this tar",
        "1.jpg": "a hard link to /etc/hostname, which is not before it in this tar",
        "2.jpg": "a hard link to link.jpg, which is not before it in this tar",
        "3.jpg": "too large: 9 bytes, at most 8 are read",
        "4.jpg": "a hard link to 4.jpg, which is not before it in this tar",
        "../5.jpg": "the name points outside the archive",
    }


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_hard_links_do_not_make_a_tar_expand_without_bound(monkeypatch, mode):
    monkeypatch.setattr(tar_links, "SPARE_BYTES", 1000)
    members = [("a.jpg", b"a" * 12000), *(hard_link(f"{number}.jpg", "a.jpg") for number in range(40))]
    contents = contents_of_bytes(tar_bytes(members, mode=mode))
    read = [key for key, data in contents.items() if data == b"a" * 12000]
    assert 10 < len(read) < 40
    assert "lead to too many bytes" in contents["39.jpg"]


def test_masks_are_skipped_and_the_component_names_what_counts(tmp_path):
    samples = {
        f"{number}.{suffix}": b"x" for number in "01" for suffix in ("cls", "jpg", "json", "seg.png", "mask.png")
    }
    (tmp_path / "0.tar").write_bytes(tar_bytes(samples.items()))
    assert set(contents_of(tmp_path)) == {"0.jpg", "1.jpg"}
    assert set(contents_of(tmp_path, component="seg.png")) == {"0.seg.png", "1.seg.png"}
    assert set(contents_of(tmp_path, component="jpg;mask.png")) == {"0.jpg", "0.mask.png", "1.jpg", "1.mask.png"}
    names = {shard.fingerprint for c in (None, "jpg") for shard in open_source(str(tmp_path), component=c).shards()}
    assert len(names) == 2, "another component gives other records"


@pytest.mark.parametrize("names", [("x.jpg", "x.png"), ("x.png", "x.jpg"), ("a/x.jpeg", "a/x.edge.png")])
def test_a_second_image_of_a_sample_that_may_be_a_mask_is_a_reason(tmp_path, names):
    first, second = names
    (tmp_path / "0.tar").write_bytes(tar_bytes([(first, b"1"), (second, b"2"), ("y.jpg", b"3")]))
    contents = contents_of(tmp_path)
    one, other = (name.partition("x.")[2] for name in names)
    assert contents.pop(second) == (
        f'a second image of the sample of {first}; name the one that counts by component = "{one}", or both by '
        f'"{one};{other}"'
    )
    assert contents == {first: b"1", "y.jpg": b"3"}
    assert contents_of(tmp_path, component=f"{one};{other};jpg") == {first: b"1", second: b"2", "y.jpg": b"3"}


@pytest.mark.parametrize(
    "names", [("x.1.jpg", "x.2.jpg"), ("x.jpg", "y.png"), ("a/x.jpg", "b/x.png"), ("x.jpg", "x.dng")]
)
def test_images_that_only_look_alike_by_name_are_images(tmp_path, names):
    (tmp_path / "0.tar").write_bytes(tar_bytes((name, b"1") for name in names))
    assert contents_of(tmp_path) == dict.fromkeys(names, b"1")
