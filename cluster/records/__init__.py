"""Read the records of an archive in any form of `FORMS`, on any URL that fsspec opens.

A record is bytes with a key; the bytes are not interpreted. Every entry that an archive lists becomes exactly one
record: its content, or the reason why it has none.
"""

from __future__ import annotations

from cluster.records.base import Record, Shard, Skipped, Source
from cluster.records.columns import Columns
from cluster.records.forms import FORMS, Form
from cluster.records.opening import open_source
from cluster.records.patterns import archive_folder
from cluster.records.references_beside import ReferencesBeside
from cluster.records.selection import Selected, Selection, content_digest
from cluster.records.shards import pick, read_shard

__all__ = [
    "FORMS",
    "Columns",
    "Form",
    "Record",
    "ReferencesBeside",
    "Selected",
    "Selection",
    "Shard",
    "Skipped",
    "Source",
    "archive_folder",
    "content_digest",
    "open_source",
    "pick",
    "read_shard",
]
