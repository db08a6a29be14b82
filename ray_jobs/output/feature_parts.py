"""Parts of features: a row an image, with its features or the reason why it has none."""

from __future__ import annotations

import io
from base64 import b64decode
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError

from cluster import Store
from fewshot.digests import PLACEHOLDER, check_seal, seal
from ray_jobs.errors import DamagedError, JobError

SIZES = (b"views", b"dim", b"tokens", b"channels")
FEATURES_VERSION = 2
"""Part of every fingerprint of features, beside that of decoding: raised when the columns change."""
READERS = 16
"""Parts that are read at a time."""
DAMAGE = (pa.ArrowException, SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError)
"""Errors of decoding a stored object that is not what was written."""
DIGEST = "fewshot.digest"
"""Key of the metadata of every Parquet file, not of its schema; see `fewshot.digests`."""


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """Images of one part, in the archive's order.

    Attributes:
        images: n keys.
        sources: n objects that hold them; "" where the image is an object itself.
        errors: n reasons; None where the image was read.
        views: [n, V, D] float32 raw encoder outputs; zero where the image was not read.
        dense: [r, T, C] float16 of the r images that were read, in order: what the image tower's last layer pools.
            None if it was not kept, or not read.
    """

    images: list[str]
    sources: list[str]
    errors: list[str | None]
    views: np.ndarray
    dense: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def take(self, rows: Sequence[int], *, images: Sequence[str] | None = None) -> FeatureRows:
        """Return some rows, in this order; `images` are their keys if they have others there."""
        index, read = np.asarray(rows, np.int64), np.cumsum([error is None for error in self.errors]) - 1
        return FeatureRows(
            images=[self.images[row] for row in rows] if images is None else list(images),
            sources=[self.sources[row] for row in rows],
            errors=[self.errors[row] for row in rows],
            views=self.views[index],
            dense=None if self.dense is None else self.dense[[read[row] for row in rows if self.errors[row] is None]],
        )


def concatenate(parts: Sequence[FeatureRows], *, dense: bool = False) -> FeatureRows:
    """Return the rows of several parts as one; `dense`: whether they have dense tokens, if there are any parts."""
    tokens = [part.dense for part in parts if part.dense is not None and len(part.dense)]
    views = [part.views for part in parts if len(part)]
    return FeatureRows(
        images=[image for part in parts for image in part.images],
        sources=[source for part in parts for source in part.sources],
        errors=[error for part in parts for error in part.errors],
        views=np.concatenate(views) if views else np.zeros((0, 1, 1), np.float32),
        dense=np.concatenate(tokens) if tokens else np.zeros((0, 0, 0), np.float16) if dense else None,
    )


def without_nonfinite(rows: FeatureRows, reason: str = "the stored features are not finite numbers") -> FeatureRows:
    """Return the rows with a reason in place of features that no score can be computed of.

    These are NaN and the infinities, from an overflow or a flipped bit, and numbers whose squares overflow.
    """
    read = np.flatnonzero([error is None for error in rows.errors])
    with np.errstate(over="ignore", invalid="ignore"):
        views = rows.views[read]
        finite = np.isfinite(np.einsum("nvd,nvd->nv", views, views)).all(axis=1)
        if rows.dense is not None:
            finite &= np.isfinite(rows.dense).all(axis=(1, 2))
    if finite.all():
        return rows
    lost = set(read[~finite].tolist())
    return replace(
        rows,
        errors=[reason if row in lost else error for row, error in enumerate(rows.errors)],
        views=np.where(np.isin(np.arange(len(rows)), list(lost))[:, None, None], np.float32(0.0), rows.views),
        dense=None if rows.dense is None else rows.dense[finite],
    )


def encode(rows: FeatureRows) -> bytes:
    """Return the rows as one Parquet object; equal rows give equal bytes."""
    n, V, D = rows.views.shape
    flat = pa.array(rows.views.reshape(-1), pa.float32())
    unread = pa.array([error is not None for error in rows.errors])
    features = (
        pa.FixedSizeListArray.from_arrays(flat, V * D, mask=unread)
        if n
        else pa.array([], pa.list_(pa.float32(), V * D))
    )
    columns = {
        "image": pa.array(rows.images, pa.string()),
        "source": pa.array(rows.sources, pa.string()),
        "error": pa.array(rows.errors, pa.string()),
        "features": features,
    }
    sizes = {"views": V, "dim": D}
    if rows.dense is not None:
        _, T, C = rows.dense.shape
        columns["dense"] = _dense_column(rows.dense, rows.errors)
        sizes |= {"tokens": T, "channels": C}
    table = pa.table(columns).replace_schema_metadata({name: str(size) for name, size in sizes.items()})
    return write_parquet(table, plain=("dense",))


def _dense_column(dense: np.ndarray, errors: Sequence[str | None]) -> pa.Array:
    """One value an image: the bytes of its tokens; null where it was not read."""
    width = 2 * dense.shape[1] * dense.shape[2]
    read = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(max(1, width)), len(dense), [None, pa.py_buffer(np.ascontiguousarray(dense, np.float16))]
    )
    position = np.cumsum([error is None for error in errors]) - 1
    return read.take(pa.array(position, pa.int64(), mask=np.array([error is not None for error in errors], bool)))


def decode(data: bytes, *, dense: bool = False) -> FeatureRows:
    """Return the rows of a part, see `encode`; dense tokens only with `dense`, and only if the part has them.

    Features that are not finite are no features: such rows have a reason, see `without_nonfinite`.
    """
    columns = ["image", "source", "error", "features", *(["dense"] if dense else [])]
    table = read_parquet(data, columns=columns)
    sizes = {name.decode(): int(value) for name, value in (table.schema.metadata or {}).items() if name in SIZES}
    V, D = sizes["views"], sizes["dim"]
    column = table["features"].combine_chunks()
    views = np.zeros((len(table), V, D), dtype=np.float32)
    read = np.asarray(column.is_valid())
    if read.any():
        views[read] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, V, D)
    rows = FeatureRows(
        images=table["image"].to_pylist(),
        sources=table["source"].to_pylist(),
        errors=table["error"].to_pylist(),
        views=views,
        dense=_dense_array(table["dense"], sizes) if dense else None,
    )
    return without_nonfinite(rows)


def _dense_array(column: pa.ChunkedArray, sizes: dict[str, int]) -> np.ndarray:
    values = column.drop_null().combine_chunks()
    T, C = sizes["tokens"], sizes["channels"]
    if not len(values):
        return np.zeros((0, T, C), np.float16)
    data = np.frombuffer(values.buffers()[1], np.float16, count=len(values) * T * C, offset=2 * values.offset * T * C)
    return data.reshape(-1, T, C)


def load(store: Store, path: str, *, dense: bool = False) -> FeatureRows:
    """Read a part; dense tokens only with `dense`.

    Raises:
        DamagedError: it is damaged, and was removed.
        FileNotFoundError: there is none.
    """
    data = store.get(path)
    with removed_if_damaged(store, path):
        return decode(data, dense=dense)


def read_parts(
    store: Store, paths: Sequence[str], *, dense: bool = False, images: Collection[str] | None = None
) -> FeatureRows:
    """Read several parts as one, some at a time; of these images alone, unless `images` is None. Raises as `load`."""

    def read(path: str) -> FeatureRows:
        part = load(store, path, dense=dense)
        if images is None:
            return part
        return part.take([row for row, image in enumerate(part.images) if image in images])

    with ThreadPoolExecutor(READERS, thread_name_prefix="features") as pool:
        return concatenate(list(pool.map(read, paths)), dense=dense)


def find_images(store: Store, paths: Sequence[str], images: Collection[str]) -> dict[str, str]:
    """Find images in parts of features, some of which may be damaged or gone: nothing is found in these.

    Returns:
        image -> path of a part that has it.
    """

    def read(path: str) -> list[str]:
        try:
            data = store.get(path)
        except FileNotFoundError:
            return []
        with suppress(*DAMAGE):
            names: list[str] = read_parquet(data, columns=["image"])["image"].to_pylist()
            return names
        return []

    with ThreadPoolExecutor(READERS, thread_name_prefix="features") as pool:
        listed = zip(paths, pool.map(read, paths), strict=True)
        return {image: path for path, found in listed for image in found if image in images}


@contextmanager
def removed_if_damaged(store: Store, path: str) -> Iterator[None]:
    """Decode a part in this context: if that fails, the part is removed, so that the next run makes it anew.

    Raises:
        DamagedError: it failed.
    """
    try:
        yield
    except DAMAGE as error:
        store.delete(path)
        message = f"{store.url(path)} was damaged and is gone; run again to make it anew ({error})"
        raise DamagedError(message) from error


def get_table(store: Store, path: str, *, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table, or some of its columns.

    Raises:
        DamagedError: it is damaged, and was removed.
        FileNotFoundError: there is none.
    """
    data = store.get(path)
    with removed_if_damaged(store, path):
        return read_parquet(data, columns=columns)


def view_table(store: Store, path: str, *, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table, or some of its columns, for a command that only looks: what is damaged stays where it is.

    Raises:
        JobError: it is damaged.
        FileNotFoundError: there is none.
    """
    data = store.get(path)
    try:
        return read_parquet(data, columns=columns)
    except DAMAGE as error:
        raise _damage_found(store, path, error) from error


def view_features(store: Store, path: str) -> FeatureRows:
    """Read a part of features for a command that only looks: what is damaged stays where it is.

    Raises:
        JobError: it is damaged, or gone.
    """
    with named_if_damaged(store, path):
        return decode(store.get(path))


@contextmanager
def named_if_damaged(store: Store, path: str) -> Iterator[None]:
    """Read and decode a part in this context for a command that only looks: what is damaged stays where it is.

    Raises:
        JobError: it is damaged, or gone.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise JobError([f"{store.url(path)} was removed meanwhile. Run the job again to make it anew."]) from error
    except DAMAGE as error:
        raise _damage_found(store, path, error) from error


def view_parts(store: Store, paths: Sequence[str]) -> FeatureRows:
    """Read several parts of features as one, some at a time. Raises as `view_features`."""
    with ThreadPoolExecutor(READERS, thread_name_prefix="features") as pool:
        return concatenate(list(pool.map(partial(view_features, store), paths)))


def _damage_found(store: Store, path: str, error: Exception) -> JobError:
    advice = "List all damage of the run with fewshot verify, then run the job again"
    return JobError([f"{store.url(path)} is damaged ({error}). {advice}."])


def read_parquet(data: bytes, *, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table, or some of its columns, from a Parquet object that `write_parquet` wrote.

    It is read in the calling thread. Threads of Arrow's pools release the bytes of an object late, at times only while
    Python ends, and the process is then aborted ("terminate called without an active exception").

    Raises:
        DigestError: it is damaged.
        pa.ArrowException, OSError, ValueError: it is no table with these columns.
    """
    check_seal(data)
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    if missing := sorted(set(columns or ()) - set(file.schema_arrow.names)):
        raise pa.ArrowInvalid(f"it has no column {missing[0]!r}")  # Arrow would leave it out without a word.
    written = pa.ipc.read_schema(pa.py_buffer(b64decode(file.metadata.metadata[b"ARROW:schema"])))
    return file.read(columns=columns, use_threads=False).replace_schema_metadata(written.metadata)


def write_parquet(table: pa.Table, *, plain: Sequence[str] = ()) -> bytes:
    """Return a table as one Parquet object; columns named in `plain` are not compressed."""
    return concat_parquet(table.schema, [table], plain=plain)


def concat_parquet(schema: pa.Schema, tables: Iterable[pa.Table], *, plain: Sequence[str] = ()) -> bytes:
    """Return tables of one schema as one Parquet object, one after the other.

    Pages carry checksums, for readers of any kind, and the metadata the digest of the whole object: checksums of pages
    leave out their headers, the footer and the frame of the file.
    """
    buffer = io.BytesIO()
    writer = pq.ParquetWriter(
        buffer,
        schema,
        compression={name: "NONE" if name in plain else "ZSTD" for name in schema.names},
        use_dictionary=[name for name in schema.names if name not in plain],
        write_page_checksum=True,
    )
    with writer:
        for table in tables:
            writer.write_table(table)
        writer.add_key_value_metadata({DIGEST: PLACEHOLDER})
    return seal(buffer.getvalue())


def counts(errors: Sequence[str | None]) -> dict[str, float]:
    """Count the images of a part, and those that could not be read."""
    unreadable = sum(error is not None for error in errors)
    return {"images": len(errors), "unreadable": unreadable}
