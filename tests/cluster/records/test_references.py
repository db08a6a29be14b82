"""Paths in tables as people have them: found under the reading that leads somewhere, or named with their cause."""

from __future__ import annotations

import pytest

from cluster.records.base import EntryError
from cluster.records.location import Location
from cluster.records.references import References
from tests.cluster.records.archives import contents_of, write_folder
from tests.cluster.records.test_parquet import write_table


def references(folder, **options):
    return References(Location(str(folder)), str(folder), 100, **options)


def reason(folder, reference):
    with pytest.raises(EntryError) as caught:
        references(folder).read(reference)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("red disc/0.jpg", "red disc\\0.jpg"),
        ("red disc/0.jpg", ".\\red disc\\0.jpg"),
        ("red disc/0.jpg", "red%20disc/0.jpg"),
        ("red disc/0.jpg", "red disc/0.jpg "),
        ("red disc/0.jpg", "\tred disc/0.jpg\r"),
        ("red disc/0.jpg", " red%20disc\\0.jpg"),
        ("red disc/0.jpg", "./red disc//0.jpg"),
        ("caf\u00e9.jpg", "caf%C3%A9.jpg"),
        ("100%.jpg", "100%.jpg"),
        ("a%20b.jpg", "a%20b.jpg"),
        ("back\\slash.jpg", "back\\slash.jpg"),
        (" blank.jpg ", " blank.jpg "),
        ("C:/x.jpg", "C:\\x.jpg"),
    ],
)
def test_a_path_is_found_however_it_is_written(tmp_path, name, written):
    write_folder(tmp_path, {name: b"content"})
    assert references(tmp_path).read(written) == b"content"


@pytest.mark.parametrize(
    ("files", "written"),
    [
        (("a\\b.jpg", "a/b.jpg"), "a\\b.jpg"),
        (("a%20b.jpg", "a b.jpg"), "a%20b.jpg"),
        (("a.jpg ", "a.jpg"), "a.jpg "),
    ],
)
def test_two_files_that_can_be_meant_are_never_guessed_between(tmp_path, files, written):
    write_folder(tmp_path, dict.fromkeys(files, b"content"))
    assert reason(tmp_path, written).startswith("two files can be meant, ")


@pytest.mark.parametrize(
    ("written", "causes"),
    [
        ("none.jpg", ""),
        ("a\\none.jpg", '; it is written with "\\", "/" was tried as well'),
        ("C:\\data\\none.jpg", "; it is a path of Windows (drive C:); use a relative path"),
        ("D:/data/none.jpg", "; it is a path of Windows (drive D:); use a relative path"),
        ("none%20.jpg", "; it is written with percent escapes, plain text was tried as well"),
        ("none.jpg ", "; it is written with a blank at its end"),
        (" none.jpg", "; it is written with a blank at its beginning"),
        ("~/none.jpg", '; "~" is not expanded'),
        ("n\\one.jpg ", '; it is written with a blank at its end; it is written with "\\", "/" was tried as well'),
    ],
)
def test_a_path_that_leads_nowhere_says_where_it_starts_and_what_is_unusual(tmp_path, written, causes):
    assert reason(tmp_path, written) == f"not found in {tmp_path}, the folder of the table{causes}"


def test_an_absolute_path_that_leads_nowhere_starts_nowhere(tmp_path):
    assert reason(tmp_path, f"{tmp_path}/none.jpg") == "not found"


def test_file_urls_have_escapes_and_an_absolute_path(tmp_path):
    write_folder(tmp_path, {"a b.jpg": b"content", "c%20d.jpg": b"literal"})
    for start in ("file://", "file://localhost", "FILE://", "file:", " file://"):
        assert references(tmp_path).read(f"{start}{tmp_path}/a%20b.jpg") == b"content"
    assert references(tmp_path).read(f"file://{tmp_path}/c%20d.jpg") == b"literal"
    write_folder(tmp_path, {"c d.jpg": b"content"})
    assert reason(tmp_path, f"file://{tmp_path}/c%20d.jpg").startswith("two files can be meant, ")
    assert "this one names the host a" in reason(tmp_path, "file://a/b.jpg")


def test_urls_are_taken_as_they_are_but_for_case_and_blanks_around_them(tmp_path):
    local = References(Location("/data"), "/data", 10, frozenset({"https"}))
    assert local.resolve(" HTTPS://Host/A%20b.jpg\n").uri == "https://Host/A%20b.jpg"


def test_an_unusual_path_leads_nowhere_that_a_plain_one_may_not():
    table = References(Location("s3://bucket/sets"), "bucket/sets", 10)
    looked_up = []

    def look(place):
        looked_up.append(place.uri)
        raise EntryError("not found")

    for written in ("%2Fetc%2Fpasswd", "\\etc\\passwd", "file%3A%2F%2F/etc/passwd", "http%3A//host/a", " /etc/passwd"):
        with pytest.raises(EntryError, match="not found"):
            table.find(written, look)
    assert all(uri.startswith("s3://bucket/") for uri in looked_up)


def test_a_relative_path_on_a_server_is_one_request_with_or_without_escapes():
    table = References(Location("https://host/sets"), "https://host/sets", 10)
    looked_up = []
    table.find("a%20b.jpg", lambda place: looked_up.append(place.uri))
    assert looked_up == ["https://host/sets/a%20b.jpg"]


def test_rows_of_an_archive_are_found_like_examples(tmp_path):
    write_folder(tmp_path, {"a/1.jpg": b"1", "a/2.jpg": b"2"})
    table = write_table(tmp_path / "t.parquet", {"path": ["a\\1.jpg", "a/2.jpg "]})
    assert list(contents_of(table).values()) == [b"1", b"2"]
