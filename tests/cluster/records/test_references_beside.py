"""References to two folders in one table."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from cluster.records import ReferencesBeside, Selection, read_shard

NAME = "1c5b0e9a77d04f21"


@pytest.fixture
def selection(tmp_path: Path) -> Selection:
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir(), other.mkdir()
    for folder, name, data in (
        (own, "a.jpg", b"a"),
        (own, "labels:b.jpg", b"b"),
        (own, f"labels:{NAME}", b"c"),
        (other, NAME, b"copy"),
        (tmp_path, "secret", b"secret"),
    ):
        (folder / name).write_bytes(data)
    return Selection(str(own), beside=ReferencesBeside("labels:", str(other)))


def contents(selection: Selection, *references: str) -> list[bytes | None]:
    return [record.data for record in selection.read(references)]


def test_references_are_read_from_both_folders_in_order(selection: Selection) -> None:
    references = (f"labels:{NAME}:a.jpg", "a.jpg", f"labels:{NAME}:x:y\nz", "a.jpg")
    assert contents(selection, *references) == [b"copy", b"a", b"copy", b"a"]
    selected = selection.look_up(references)
    assert [item.digest for item in selected[:2]] == [item.digest for item in selected[2:]]
    shard = pickle.loads(pickle.dumps(selection.shard(selected)))
    assert [record.data for record in read_shard(shard)] == [b"copy", b"a", b"copy", b"a"]


def test_only_plain_names_lead_to_the_other_folder(selection: Selection) -> None:
    assert contents(selection, "labels:b.jpg", f"labels:{NAME}") == [b"b", b"c"]
    assert contents(selection, "labels:../secret:a.jpg", "labels::a.jpg", "labels:..:") == [None, None, None]


def test_a_missing_copy_is_told_with_its_reason(selection: Selection) -> None:
    (record,) = selection.read([f"labels:{NAME[::-1]}:a.jpg"])
    assert (record.data, record.error) == (None, "not found")


def test_references_are_located_in_their_folders(selection: Selection, tmp_path: Path) -> None:
    found = [selection.locate(reference) for reference in (f"labels:{NAME}:a.jpg", "a.jpg")]
    assert [place and place.uri for place in found] == [str(tmp_path / "other" / NAME), str(tmp_path / "own" / "a.jpg")]
