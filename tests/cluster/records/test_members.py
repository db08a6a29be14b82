"""What becomes of the members of a container, whichever container it is."""

from __future__ import annotations

import pytest

from cluster.records import Skipped
from cluster.records.members import Member, MemberType, is_record, refusal


@pytest.mark.parametrize("name", ["a.jpg", "./a.jpg", "a/b", "a..jpg", "a../b.jpg"])
def test_a_file_is_a_record_and_read(name):
    skipped = Skipped()
    assert is_record(Member(name, 10), skipped)
    assert refusal(Member(name, 10), 10) is None
    assert skipped.count == 0


@pytest.mark.parametrize("name", [".a.jpg", "a/.b/c.jpg", "./.a.jpg", "__MACOSX/._a.jpg", "a.txt", "a/LICENSE"])
def test_hidden_members_and_sidecars_are_counted_not_read(name):
    skipped = Skipped()
    assert not is_record(Member(name, 10), skipped)
    assert (skipped.count, skipped.examples) == (1, [name.removeprefix("./")])


@pytest.mark.parametrize("name", ["/a.jpg", "../a.jpg", "a/../b.jpg", "..", "../.a.jpg", "/a.txt"])
def test_a_name_that_points_outside_is_a_record_with_a_reason(name):
    skipped = Skipped()
    assert is_record(Member(name, 10), skipped)
    assert refusal(Member(name, 10), 10) == "the name points outside the archive"
    assert skipped.count == 0


@pytest.mark.parametrize("name", ["", "./"])
def test_a_file_without_a_name_is_a_record_with_a_reason(name):
    assert is_record(Member(name, 10), Skipped())
    assert refusal(Member(name, 10), 10) == "an empty name"


def test_a_directory_is_nothing_even_if_hidden():
    skipped = Skipped()
    assert not any(is_record(Member(name, 0, MemberType.DIRECTORY), skipped) for name in ("a", ".git", "../x"))
    assert skipped.count == 0


def test_a_hard_link_is_left_to_the_container():
    assert refusal(Member("a.jpg", 0, MemberType.HARD_LINK), 10) is None
    assert refusal(Member("../a.jpg", 0, MemberType.HARD_LINK), 10) == "the name points outside the archive"


def test_members_of_other_components_are_counted():
    skipped = Skipped()
    assert is_record(Member("./a/x.jpg", 1), skipped, "jpg")
    assert not is_record(Member("a/x.seg.png", 1), skipped, "jpg")
    assert is_record(Member("a/x.seg.png", 1), skipped, "seg.png")
    assert skipped == Skipped(1, ["a/x.seg.png"])


def test_links_special_files_and_large_ones_are_refused():
    assert refusal(Member("a.jpg", 0, MemberType.LINK), 10) == "a link, not a file"
    assert refusal(Member("a.jpg", 0, MemberType.SPECIAL), 10) == "not a regular file"
    assert refusal(Member("a.jpg", 11), 10) == "too large: 11 bytes, at most 10 are read"


def test_a_table_in_an_archive_is_named_unless_it_describes_the_images():
    skipped = Skipped()
    assert is_record(Member("data/0.parquet", 1), skipped)
    assert str(refusal(Member("data/0.parquet", 1), 10)).startswith("a Parquet table in an archive, which is not")
    assert not any(is_record(Member(name, 1), skipped) for name in ("metadata.parquet", ".cache/0.parquet"))
    assert not is_record(Member("0.parquet", 1), skipped, "jpg")


@pytest.mark.parametrize("name", ["b.zip", "a/b.TAR", "b.tar.gz", "b.7z", "b.rar", "a.jpg.gz", "b.tzst"])
def test_an_archive_in_an_archive_is_refused_by_name(name):
    assert is_record(Member(name, 10), Skipped())
    assert str(refusal(Member(name, 10), 10)).startswith("an archive or a compressed file in an archive")
