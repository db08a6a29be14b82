"""The numbers of a part of features, taken from its bytes where they lie.

Arrow makes lists of them again, which takes longer than all else that a search does. The column is stored plainly, so
its pages hold the numbers as they are in memory, behind a header and the levels that say which rows are null: see
https://parquet.apache.org/docs/file-format. What is stored in another way is read by Arrow.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fewshot.digests import check_seal

Values: TypeAlias = NDArray[np.float32]
"""[r, V, D], of the r images that were read, in order."""
_DATA_PAGE = 0
_KIND, _SIZE = 1, 3
"""Fields of a page's header: its kind, and the bytes of its body as they are stored."""
_STOP, _TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _STRUCT = 0, 1, 2, 3, 4, 5, 6, 7, 8, 12
"""Types of fields in Thrift's compact protocol."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of the images of a part that were read.

    Attributes:
        images: n keys, of all images.
        sources: n objects that hold them.
        read: [r] int64, positions of the images that were read.
    """

    images: list[str]
    sources: list[str]
    read: NDArray[np.int64]


def feature_values(data: bytes) -> Values:
    """Return the features of the images of a part that were read; they may be no finite numbers.

    Args:
        data: of the part, see `ray_jobs.output.feature_parts.encode`; it is compared with its digest.

    Returns:
        a view of `data` if they are one page.

    Raises:
        DigestError: it is damaged.
        pa.ArrowException, OSError, KeyError, ValueError: it is no part of features.
    """
    check_seal(data)
    metadata = pq.read_metadata(pa.BufferReader(data))
    V, D = _sizes(metadata.metadata[b"ARROW:schema"])
    chunks = [_chunk(metadata.row_group(group)) for group in range(metadata.num_row_groups)]
    if not all(_is_plain(chunk) for chunk in chunks):
        return decoded_values(data)
    pages = [page for chunk in chunks for page in _pages(data, chunk.data_page_offset, chunk.total_compressed_size)]
    flat = pages[0] if len(pages) == 1 else np.concatenate([np.zeros(0, np.float32), *pages])
    return flat.reshape(-1, V, D)


def decoded_values(data: bytes) -> Values:
    """Return the same as Arrow decodes it; the digest is not looked at."""
    file = pq.ParquetFile(pa.BufferReader(data))
    V, D = _sizes(file.metadata.metadata[b"ARROW:schema"])
    column = file.read(columns=["features"], use_threads=False)["features"].drop_null().combine_chunks()
    values: Values = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, V, D)
    return values


def read_keys(data: bytes) -> Keys:
    """Return the names of the images of a part whose digest has been checked."""
    file = pq.ParquetFile(pa.BufferReader(data))
    table = file.read(columns=["image", "source", "error"], use_threads=False)
    read = np.flatnonzero(np.asarray(table["error"].is_null()))
    return Keys(table["image"].to_pylist(), table["source"].to_pylist(), read)


@lru_cache(maxsize=16)
def _sizes(schema: bytes) -> tuple[int, int]:
    """V and D from the schema as it was written, which all parts of a run share."""
    stored = pa.ipc.read_schema(pa.py_buffer(b64decode(schema))).metadata
    return int(stored[b"views"]), int(stored[b"dim"])


def _chunk(group: pq.RowGroupMetaData) -> pq.ColumnChunkMetaData:
    """The column of features, in which each row is a list."""
    names = [group.column(index).path_in_schema.split(".")[0] for index in range(group.num_columns)]
    return group.column(names.index("features"))


def _is_plain(chunk: pq.ColumnChunkMetaData) -> bool:
    plain = {"PLAIN", "RLE"}  # RLE are the levels.
    is_plain: bool = chunk.physical_type == "FLOAT" and chunk.compression == "UNCOMPRESSED"
    return is_plain and set(chunk.encodings) <= plain


def _pages(data: bytes, start: int, size: int) -> Iterator[NDArray[np.float32]]:
    """Yield the numbers in each page of a column."""
    end = start + size
    while start < end:
        header, body = _read_header(data, start)
        if header[_KIND] != _DATA_PAGE:
            raise ValueError(f"page of kind {header[_KIND]} in the features")
        values, start = body, body + header[_SIZE]
        for _ in range(2):  # Which rows begin a list, and which are null; each behind its length.
            values += 4 + int.from_bytes(data[values : values + 4], "little")
        yield np.frombuffer(data, "<f4", count=(start - values) // 4, offset=values)


def _read_header(data: bytes, at: int) -> tuple[dict[int, int], int]:
    """Read a struct of Thrift's compact protocol: its numbers by field, and where it ends."""
    numbers: dict[int, int] = {}
    field = 0
    while (first := data[at]) != _STOP:
        kind, step, at = first & 15, first >> 4, at + 1
        if step:
            field += step
        else:
            field, at = _read_number(data, at)
        if kind in (_I16, _I32, _I64):
            numbers[field], at = _read_number(data, at)
        else:
            at = _skip(data, at, kind)
    return numbers, at + 1


def _skip(data: bytes, at: int, kind: int) -> int:
    """Return where a value that is no number ends."""
    if kind == _STRUCT:
        return _read_header(data, at)[1]
    if kind == _BINARY:
        length, at = _read_varint(data, at)
        return at + length
    if kind in (_TRUE, _FALSE):  # The type is the value.
        return at
    if kind in (_BYTE, _DOUBLE):
        return at + (1 if kind == _BYTE else 8)
    raise ValueError(f"type {kind} in the header of a page")


def _read_number(data: bytes, at: int) -> tuple[int, int]:
    """Read a signed number (zigzag), and return where it ends."""
    value, at = _read_varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while data[at] & 128:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
    return value | data[at] << shift, at + 1
