"""Every entry of an archive of strange files ends as exactly one image or one reason, whatever the archive is."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fewshot.errors import UnreadableImageError
from fewshot.images import decode
from tests.cluster.records.archives import records_of, tar_bytes
from tests.strange_files import write_strange_files


def write_archive(folder, kind):
    """The strange files as an archive of this kind, and what is expected of each."""
    files = folder / "files"
    files.mkdir()
    expected = write_strange_files(files)
    contents = [(name, (files / name).read_bytes()) for name in expected]
    if kind == "tar":
        (folder / "0.tar").write_bytes(tar_bytes(contents))
        return folder / "0.tar", expected
    if kind == "parquet":
        names, data = zip(*contents, strict=True)
        pq.write_table(pa.table({"key": names, "image": data}), folder / "0.parquet")
        return folder / "0.parquet", expected
    return files, expected


def reason_against(data):
    """Why an image cannot be decoded; None if it can."""
    try:
        decode(data)
    except UnreadableImageError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", ["folder", "tar", "parquet"])
def test_every_entry_is_one_image_or_one_reason(tmp_path, kind):
    archive, expected = write_archive(tmp_path, kind)
    records = records_of(archive, shard_records=16)
    assert sorted(record.key for record in records) == sorted(expected)
    for record in records:
        reason, pattern = reason_against(record.data), expected[record.key]
        assert (reason is None) == (pattern is None), f"{record.key}: {reason}"
        assert reason is None or re.search(pattern, reason), f"{record.key}: {reason}"
