"""Every entry of an archive of strange files ends as exactly one image or one reason, whatever the archive is."""

from __future__ import annotations

import re

import pytest

from cluster.records import FORMS
from fewshot.errors import UnreadableImageError
from fewshot.images import decode
from tests.cluster.records.archives import records_of
from tests.cluster.records.builders import BUILDERS
from tests.strange_files import write_strange_files


def write_archive(folder, form):
    """The strange files as an archive of this form, and what is expected of each."""
    files = folder / "files"
    files.mkdir()
    expected = write_strange_files(files)
    builder = BUILDERS[form.name]
    if not form.suffixes:
        return f"{files}/{builder.place}", expected
    return builder.write(
        folder / f"0{builder.suffix}", {name: (files / name).read_bytes() for name in expected}
    ), expected


def reason_against(data):
    """Why an image cannot be decoded; None if it can."""
    try:
        decode(data)
    except UnreadableImageError as error:
        return str(error)
    return None


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_every_entry_is_one_image_or_one_reason(tmp_path, form):
    archive, expected = write_archive(tmp_path, form)
    records = records_of(archive, shard_records=16)
    assert sorted(record.key for record in records) == sorted(expected)
    for record in records:
        reason, pattern = reason_against(record.data), expected[record.key]
        assert (reason is None) == (pattern is None), f"{record.key}: {reason}"
        assert reason is None or re.search(pattern, reason), f"{record.key}: {reason}"
