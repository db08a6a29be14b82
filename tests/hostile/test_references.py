"""Where the rows of a table may lead: to places of the table's own kind, and elsewhere only if the job says so."""

from __future__ import annotations

import http.server
import threading
from contextlib import contextmanager
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster import Storage
from cluster.records import Selection, read_shard
from cluster.records.base import EntryError
from cluster.records.location import Location
from cluster.records.references import SCHEMES, References
from ray_jobs.job_file.field_types import SchemeName
from tests.cluster.records.archives import contents_of

ELSEWHERE = sorted(SCHEMES - {"file"})


@contextmanager
def web_server():
    """A server on loopback that remembers what it was asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "3")
            self.end_headers()
            self.wfile.write(b"abc")

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def archive_of(folder, *urls):
    pq.write_table(pa.table({"url": list(urls)}), folder / "t.parquet")
    return folder / "t.parquet"


def test_a_local_table_asks_no_server_unless_the_job_allows_it(tmp_path):
    with web_server() as (server, asked):
        table = archive_of(tmp_path, f"{server}/latest/meta-data/")
        (reason,) = contents_of(table).values()
        assert reason == 'http URLs are not followed from this table; allow them with schemes = ["http"]'
        assert asked == []
        assert list(contents_of(table, schemes=["http"]).values()) == [b"abc"]
        assert asked


def test_examples_of_a_local_table_ask_no_server_not_even_for_their_version(tmp_path):
    with web_server() as (server, asked):
        urls = [f"{server}/a.jpg", f"zip://a.jpg::{server}/a.zip", f"simplecache::{server}/a.jpg"]
        selection = Selection(str(tmp_path))
        shard = selection.shard(selection.look_up(urls))
        assert all(record.data is None for record in read_shard(shard))
        assert asked == []
        allowed = Selection(str(tmp_path), schemes=["http"])
        (record,) = read_shard(allowed.shard(allowed.look_up(urls[:1])))
        assert record.data == b"abc"


def test_what_is_allowed_is_part_of_a_shards_name(tmp_path):
    from cluster.records import open_source

    table = str(archive_of(tmp_path, "http://127.0.0.1:1/a.jpg"))
    names = {shard.fingerprint for schemes in ((), ("http",)) for shard in open_source(table, schemes=schemes).shards()}
    assert len(names) == 2


@pytest.mark.parametrize("scheme", ELSEWHERE)
def test_a_local_table_leads_nowhere_else_by_itself(scheme):
    local = References(Location("/data"), "/data", 10)
    with pytest.raises(EntryError, match=f"{scheme} URLs are not followed"):
        local.resolve(f"{scheme}://host/a.jpg")
    allowed = References(Location("/data"), "/data", 10, frozenset({scheme}))
    assert allowed.resolve(f"{scheme}://host/a.jpg").scheme == scheme


def test_a_table_of_a_web_server_leads_to_that_server_only():
    table = References(Location("https://host/sets"), "https://host/sets", 10)
    assert table.resolve("https://host/images/a.jpg").uri == "https://host/images/a.jpg"
    for url in ("https://169.254.169.254/latest", "https://host.evil/a.jpg", "http://host/a.jpg", "s3://host/a.jpg"):
        with pytest.raises(EntryError, match="are not followed from this table"):
            table.resolve(url)


def test_a_table_in_s3_leads_to_s3_in_the_same_way_and_nothing_of_this_machine():
    there = Storage(endpoint="http://127.0.0.1:1")
    table = References(Location("s3://bucket/sets", there), "bucket/sets", 10, frozenset({"https"}))
    assert table.resolve("s3://other/a.jpg") == Location("s3://other/a.jpg", there)
    assert table.resolve("a.jpg") == Location("s3://bucket/sets/a.jpg", there)
    assert table.resolve("https://host/a.jpg").uri == "https://host/a.jpg"
    for path in ("/etc/passwd", "file:///etc/passwd"):
        with pytest.raises(EntryError, match="a local path in a table that is not local"):
            table.resolve(path)


@pytest.mark.parametrize(
    "url",
    ["ssh://h/a", "git://h/a", "hf://h/a", "reference://a", "zip://a::http://h/b", "https://h/a::file:///b", "x\n://"],
)
def test_other_kinds_of_url_cannot_be_allowed(url):
    table = References(Location("/data"), "/data", 10, frozenset({url.partition("://")[0]}))
    with pytest.raises(EntryError, match="unsupported kind of URL") as caught:
        table.resolve(url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/stdin", "\0", "a\0b", "", "x" * 5000, "~/x", "."])
def test_a_path_that_is_no_file_is_a_reason(tmp_path, path):
    (record,) = read_shard(Selection(str(tmp_path)).shard(Selection(str(tmp_path)).look_up([path])))
    assert record.data is None


def test_a_job_file_can_allow_what_leads_to_other_machines_and_nothing_else():
    assert set(get_args(SchemeName)) == SCHEMES - {"file", "memory"}


@pytest.mark.parametrize("up", range(1, 6))
def test_a_relative_path_on_a_web_server_does_not_lead_to_another_one(up):
    table = References(Location("https://host/sets/1"), "https://host/sets/1", 10)
    found = table.resolve("../" * up + "other/a.jpg").uri
    assert found == f"https://host/{'sets/' if up == 1 else ''}other/a.jpg"
