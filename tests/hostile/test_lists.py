"""Lists made to lead elsewhere, to fill memory or to repeat: each row is a record, and nothing else is read."""

from __future__ import annotations

import json
import pickle
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import SourceError
from cluster.records import open_source, read_shard
from cluster.records.base import EntryError
from cluster.records.list_rows import LIST_SUFFIXES, MAX_LINE_BYTES
from cluster.records.location import Location
from cluster.records.references import References
from tests.cluster.faulty import faults
from tests.cluster.records.archives import contents_of, records_of, write_folder
from tests.hostile.test_references import web_server


def test_a_local_list_makes_no_request_unless_the_job_allows_it(tmp_path):
    with web_server() as (server, asked):
        write_folder(tmp_path, {"a.jpg": b"1", "list.txt": f"a.jpg\n{server}/latest/meta-data/\n".encode()})
        contents = contents_of(tmp_path / "list.txt")
        assert contents.pop("a.jpg") == b"1"
        assert 'allow them with schemes = ["http"]' in str(contents.popitem()[1])
        write_folder(tmp_path, {"list.txt": f"{server}/latest/meta-data/\n".encode()})
        with pytest.raises(SourceError, match="http URLs are not followed"):
            open_source(str(tmp_path / "list.txt"))
        assert asked == []
        assert list(contents_of(tmp_path / "list.txt", schemes=["http"]).values()) == [b"abc"]


def test_a_list_from_elsewhere_names_no_file_of_this_machine(tmp_path):
    secret = write_folder(tmp_path, {"secret.jpg": b"secret"}) / "secret.jpg"
    with faults() as filesystem:
        filesystem.pipe_file("/r/a.jpg", b"1")
        filesystem.pipe_file("/r/list.txt", f"a.jpg\n{secret}\n{secret.as_uri()}\n".encode())
        records = records_of("faulty://r/list.txt")
    assert [record.data for record in records] == [b"1", None, None]
    assert {record.error for record in records[1:]} == {"a local path in a table that is not local"}


@pytest.mark.parametrize("path", ["../../../x.jpg", "sub/../../../x.jpg", "//evil.host/x.jpg", "..//evil.host/x.jpg"])
def test_a_relative_path_leads_to_no_other_web_server(path):
    references = References(Location("https://host/sets/list.txt"), "https://host/sets", 10)
    try:
        place = references.resolve(path)
    except EntryError:
        return
    assert place.uri.startswith("https://host/")


@pytest.mark.parametrize("row", ["/dev/zero", "/dev/stdin", "a\0b", "/etc", "ssh://h/a", "zip://a::http://h/b", "~/x"])
def test_a_row_that_is_no_file_is_a_reason(tmp_path, row):
    write_folder(tmp_path, {"a.jpg": b"1", "list.txt": f"a.jpg\n{row}\n".encode()})
    good, bad = records_of(tmp_path / "list.txt")
    assert good.data == b"1"
    assert bad.data is None


def test_rows_within_rows_come_to_an_end(tmp_path):
    deep = "[" * 30_000 + "]" * 30_000
    wide = json.dumps({f"column {number}": "x" for number in range(3000)})
    number = '{"path": ' + "9" * 5000 + "}"
    write_folder(tmp_path, {"a.jpg": b"1", "list.jsonl": "\n".join([deep, wide, number, '"a.jpg"']).encode()})
    records = records_of(tmp_path / "list.jsonl")
    assert [record.data for record in records] == [None, None, None, b"1"]
    write_folder(tmp_path, {"list.csv": b"c," * 30_000 + b"x\n"})
    with pytest.raises(SourceError) as caught:
        open_source(str(tmp_path / "list.csv"))
    assert len(str(caught.value)) < 2000


def test_a_shard_is_no_larger_than_its_rows_may_be(tmp_path):
    rows = [f"data:,{'x' * (MAX_LINE_BYTES - 100)}", *(f"data:,{'x' * MAX_LINE_BYTES}" for _ in range(20))]
    write_folder(tmp_path, {"list.txt": "\n".join(rows).encode()})
    (shard,) = open_source(str(tmp_path / "list.txt")).shards()
    assert len(pickle.dumps(shard)) < 2 * MAX_LINE_BYTES
    assert [record.data is None for record in read_shard(shard)] == [False] + [True] * 20


@given(suffix=st.sampled_from(LIST_SUFFIXES), data=st.binary(max_size=400), text=st.text(max_size=100))
def test_any_bytes_are_records_or_are_refused(tmp_path_factory, suffix, data, text):
    folder = tmp_path_factory.mktemp("list")
    (folder / f"list{suffix}").write_bytes(b"path\n" * (suffix == ".csv") + data + text.encode("utf-8", "replace"))
    with suppress(SourceError):
        records = records_of(folder / f"list{suffix}")
        assert all(len(record.key.splitlines()) <= 1 for record in records)
