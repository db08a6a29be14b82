"""The columns of a feature part: one row an image, with its features or the reason why it has none."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster import Store
from ray_jobs.errors import DamagedError

FEATURES_VERSION = 1
"""Part of every fingerprint of features: raised when decoding or the columns change."""


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """Images of one part, in the archive's order.

    Attributes:
        images: n keys.
        sources: n objects that hold them; "" where the image is an object itself.
        errors: n reasons; None where the image was read.
        views: [n, V, D] float32 raw encoder outputs; zero where the image was not read.
    """

    images: list[str]
    sources: list[str]
    errors: list[str | None]
    views: np.ndarray

    def __len__(self) -> int:
        """How many."""
        return len(self.images)


def encode(rows: FeatureRows) -> bytes:
    """The rows as one Parquet object; equal rows give equal bytes."""
    n, V, D = rows.views.shape
    flat = pa.array(rows.views.reshape(-1), pa.float32())
    unread = pa.array([error is not None for error in rows.errors])
    features = (
        pa.FixedSizeListArray.from_arrays(flat, V * D, mask=unread)
        if n
        else pa.array([], pa.list_(pa.float32(), V * D))
    )
    table = pa.table(
        {
            "image": pa.array(rows.images, pa.string()),
            "source": pa.array(rows.sources, pa.string()),
            "error": pa.array(rows.errors, pa.string()),
            "features": features,
        }
    )
    table = table.replace_schema_metadata({"views": str(V), "dim": str(D)})
    return write_parquet(table)


def decode(data: bytes) -> FeatureRows:
    """The inverse of `encode`."""
    table = pq.read_table(io.BytesIO(data))
    V, D = (int(table.schema.metadata[name]) for name in (b"views", b"dim"))
    column = table["features"].combine_chunks()
    views = np.zeros((len(table), V, D), dtype=np.float32)
    read = np.asarray(column.is_valid())
    if read.any():
        views[read] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, V, D)
    return FeatureRows(
        images=table["image"].to_pylist(),
        sources=table["source"].to_pylist(),
        errors=table["error"].to_pylist(),
        views=views,
    )


def load(store: Store, path: str) -> FeatureRows:
    """A part from storage.

    Raises:
        DamagedError: it is damaged, and was removed.
        FileNotFoundError: there is none.
    """
    data = store.get(path)
    with removed_if_damaged(store, path):
        return decode(data)


@contextmanager
def removed_if_damaged(store: Store, path: str) -> Iterator[None]:
    """While a part is decoded: if that fails, remove it, so that the next run makes it anew.

    Raises:
        DamagedError: it failed.
    """
    try:
        yield
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        store.delete(path)
        message = f"{store.url(path)} was damaged and is gone; run again to make it anew ({error})"
        raise DamagedError(message) from error


def write_parquet(table: pa.Table) -> bytes:
    """A table as one Parquet object."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def counts(errors: Sequence[str | None]) -> dict[str, float]:
    """What a part's summary says of its rows."""
    unreadable = sum(error is not None for error in errors)
    return {"images": len(errors), "unreadable": unreadable}
