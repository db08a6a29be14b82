"""An index of a run's predictions in a file of this machine, for pages that read a screen and never sort all rows.

It is a SQLite database, made once a run as a stream and never changed: its name is a fingerprint of the parts of
predictions, which are never changed either. Pages begin behind a key, certainty and number of the last image, and not
at an offset, so that the last page costs what the first one does.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster import fingerprint
from cluster.records.reading import ordered_map
from ray_jobs.output.feature_parts import view_table
from ray_jobs.output.layout import shard_of
from ray_jobs.output.runs import Run

INDEX_VERSION = 1
KEPT_INDEXES = 4
"""Newest files of indexes that stay; older ones are removed when one is made."""
MOST_IMAGES = 2**63 - 1
"""Numbers of images are not larger."""
READERS = 8
"""Parts that are read at a time."""
_TOP = np.dtype([("label", "<i4"), ("score", "<f4")])
_COLUMNS = ["image", "source", "status", "score", "margin", "top_labels", "top_scores"]
_TABLES = """
CREATE TABLE classes(id INTEGER PRIMARY KEY, name TEXT NOT NULL, images INTEGER NOT NULL);
CREATE TABLE shards(id INTEGER PRIMARY KEY, shard TEXT NOT NULL);
CREATE TABLE images(
  id INTEGER PRIMARY KEY, image TEXT NOT NULL, source TEXT NOT NULL, shard INTEGER NOT NULL, place INTEGER NOT NULL,
  status TEXT NOT NULL, label INTEGER NOT NULL, certainty REAL NOT NULL, score REAL, top BLOB NOT NULL);
"""
_INDEXES = """
CREATE INDEX of_class ON images(label, certainty);
CREATE INDEX of_certainty ON images(certainty);
CREATE INDEX of_image ON images(image);
"""
_SELECT = """
SELECT images.id, image, source, shards.shard, place, status, label, certainty, score, top
FROM images JOIN shards ON shards.id = images.shard
"""


class Cursor(NamedTuple):
    """Where a page ends: the next one begins behind it.

    Attributes:
        certainty: of the last image.
        id: number of the last image.
    """

    certainty: float
    id: int


@dataclass(frozen=True, slots=True)
class IndexedImage:
    """A row of the predictions.

    Attributes:
        id: number in the index.
        image: key in the archive.
        source: the object that holds it; "" where it is an object itself.
        shard: fingerprint of its shard.
        place: position in the shard, from 0.
        status: as in the predictions.
        certainty: what pages are ordered by: the score, or the margin where there is none.
        score: calibrated probability of the most probable class, in [0, 1]; None where there is none.
        top: the most probable classes with their probabilities, the most probable first.
    """

    id: int
    image: str
    source: str
    shard: str
    place: int
    status: str
    certainty: float
    score: float | None
    top: tuple[tuple[str, float | None], ...]

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.top[0][0]

    @property
    def cursor(self) -> Cursor:
        """The end of a page that ends with this image."""
        return Cursor(self.certainty, self.id)


class PredictionIndex:
    """Reads the index of a run. Images that were answered are kept in it for as long as it is open.

    Args:
        path: of the file, see `open_index`.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self._lock = RLock()
        uri = f"file:{quote(str(path))}?mode=ro&immutable=1"
        self._connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        self._connection.execute("CREATE TEMP TABLE answered(id INTEGER PRIMARY KEY, label INTEGER)")
        classes = self._rows("SELECT id, name, images FROM classes ORDER BY id")
        self.classes: tuple[str, ...] = tuple(name for _, name, _ in classes)
        self.counts: tuple[int, ...] = tuple(images for *_, images in classes)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def of_class(self, label: int, count: int, after: Cursor | None = None) -> list[IndexedImage]:
        """Return images that were not answered and are most probably of a class, the most certain first.

        Args:
            label: position of the class in `classes`.
            count: number of images, at most.
            after: end of the page before.
        """
        behind = "" if after is None else "AND (certainty, images.id) < (:certainty, :id)"
        return self._page(f"WHERE label = :label {behind}", "certainty DESC, images.id DESC", count, after, label=label)

    def least_certain(self, count: int, after: Cursor | None = None) -> list[IndexedImage]:
        """Return images that were not answered, the least certain first; see `of_class`."""
        behind = "WHERE 1" if after is None else "WHERE (certainty, images.id) > (:certainty, :id)"
        return self._page(behind, "certainty, images.id", count, after)

    def _page(self, where: str, order: str, count: int, after: Cursor | None, **values: object) -> list[IndexedImage]:
        # Joined after the limit, so that no row but those of the page is looked up.
        chosen = f"SELECT images.id FROM images {where} AND images.id NOT IN (SELECT id FROM answered)"  # noqa: S608
        ids = self._rows(
            f"{chosen} ORDER BY {order} LIMIT :count",
            values | {"count": count} | ({} if after is None else after._asdict()),
        )
        return self.images([each for (each,) in ids])

    def images(self, ids: Collection[int]) -> list[IndexedImage]:
        """Return images by their numbers, in the given order; numbers that do not exist are left out."""
        found: dict[int, IndexedImage] = {}
        possible = [each for each in ids if 0 <= each <= MOST_IMAGES]
        for start in range(0, len(possible), 500):
            some = possible[start : start + 500]
            marks = ", ".join("?" * len(some))
            found |= {row[0]: self._image(row) for row in self._rows(f"{_SELECT} WHERE images.id IN ({marks})", some)}
        return [found[each] for each in ids if each in found]

    def _image(self, row: Any) -> IndexedImage:
        number, image, source, shard, place, status, _, certainty, score, top = row
        ranked = tuple(
            (self.classes[label], None if score != score else float(score))
            for label, score in np.frombuffer(top, _TOP).tolist()
        )
        return IndexedImage(number, image, source, shard, place, status, certainty, score, ranked)

    def find(self, images: Iterable[str]) -> dict[str, int]:
        """Return the numbers of images, by key; keys that are not there are missing."""
        query = "SELECT min(id) FROM images WHERE image = ?"
        found = {image: self._rows(query, (image,))[0][0] for image in images}
        return {image: number for image, number in found.items() if number is not None}

    def set_answered(self, *, added: Iterable[str], removed: Iterable[str]) -> None:
        """Leave images out of pages from now on, and take others in again.

        Args:
            added: keys of the ones.
            removed: keys of the others.
        """
        with self._lock:
            query = "INSERT OR REPLACE INTO answered SELECT id, label FROM images WHERE image = ?"
            self._connection.executemany(query, ((image,) for image in added))
            query = "DELETE FROM answered WHERE id IN (SELECT id FROM images WHERE image = ?)"
            self._connection.executemany(query, ((image,) for image in removed))
            self._connection.commit()

    def answered(self) -> frozenset[int]:
        """Return the numbers of all images that were answered."""
        return frozenset(number for (number,) in self._rows("SELECT id FROM answered"))

    def answered_counts(self) -> dict[int, int]:
        """Return how many images of each predicted class were answered, by position of the class."""
        return dict(self._rows("SELECT label, count(*) FROM answered GROUP BY label"))

    def disagreements(self, other: Path) -> list[int]:
        """Return images whose most probable class another run sees differently, those that both are surest of first.

        Args:
            other: file of the index of the other run; images are matched by key.
        """
        with self._lock:
            self._connection.execute("ATTACH ? AS other", (f"file:{quote(str(other))}?mode=ro&immutable=1",))
            query = """
            SELECT mine.id FROM images AS mine
            JOIN classes AS mine_class ON mine_class.id = mine.label
            JOIN other.images AS theirs ON theirs.image = mine.image
            JOIN other.classes AS their_class ON their_class.id = theirs.label
            WHERE mine_class.name <> their_class.name
            ORDER BY min(mine.certainty, theirs.certainty) DESC, mine.id
            """
            found = [number for (number,) in self._connection.execute(query)]
            self._connection.execute("DETACH other")
            return found

    def _rows(self, query: str, values: Any = ()) -> list[Any]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()


def open_index(run: Run, folder: Path, *, progress: Callable[[int], None] = lambda _: None) -> Path:
    """Return the file of the index of a run, which is made unless it is there.

    Args:
        run: of `classify`.
        folder: of all indexes on this machine; it is made if it does not exist.
        progress: is called with numbers of images that were read.

    Raises:
        JobError: the run is an evaluation, or parts of it are missing or damaged.
        StorageError: storage does not respond.
    """
    parts = run.prediction_parts()
    path = folder / f"{fingerprint([INDEX_VERSION, [run.store.url(part) for part in parts]])}.sqlite"
    if path.exists():
        path.touch()
        return path
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, made = tempfile.mkstemp(dir=folder, suffix=".partial")
    os.close(handle)
    try:
        _write(Path(made), run, parts, progress)
        Path(made).replace(path)
    finally:
        Path(made).unlink(missing_ok=True)
    _remove_old(folder)
    return path


def _remove_old(folder: Path) -> None:
    newest = sorted(folder.glob("*.sqlite"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in newest[KEPT_INDEXES:]:
        path.unlink(missing_ok=True)


def _write(path: Path, run: Run, parts: list[str], progress: Callable[[int], None]) -> None:
    def read(part: str) -> pa.Table:
        return view_table(run.store, part, columns=_COLUMNS)

    classes: dict[str, int] = {}
    counts: list[int] = []
    with closing(sqlite3.connect(path)) as database:
        database.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_TABLES}")
        for number, (part, table) in enumerate(zip(parts, ordered_map(read, parts, READERS), strict=True)):
            database.execute("INSERT INTO shards VALUES (?, ?)", (number, shard_of(part)))
            database.executemany(
                "INSERT INTO images(image, source, status, score, certainty, label, top, shard, place)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                _part_rows(table, number, classes, counts),
            )
            progress(len(table))
        rows = ((number, name, counts[number]) for name, number in classes.items())
        database.executemany("INSERT INTO classes VALUES (?, ?, ?)", rows)
        database.executescript(_INDEXES)


def _part_rows(table: pa.Table, shard: int, classes: dict[str, int], counts: list[int]) -> Iterator[tuple[Any, ...]]:
    """Return the rows of a part, without the unreadable ones; `classes` and `counts` get what is new."""
    places = np.flatnonzero(np.asarray(pc.greater(pc.fill_null(pc.list_value_length(table["top_labels"]), 0), 0)))
    table = table.take(pa.array(places))
    if not len(table):
        return iter(())
    lists = table["top_labels"].combine_chunks()
    names = pc.list_flatten(lists).dictionary_encode()
    numbers = np.array([classes.setdefault(name, len(classes)) for name in names.dictionary.to_pylist()], np.int32)
    counts += [0] * (len(classes) - len(counts))
    labels = numbers[names.indices.to_numpy()]
    lengths = pc.list_value_length(lists).to_numpy()
    ends = np.cumsum(lengths)
    top = np.empty(len(labels), _TOP)
    top["label"], top["score"] = labels, _scores(table["top_scores"], lengths)
    first = labels[ends - lengths]
    for label, images in zip(*np.unique(first, return_counts=True), strict=True):
        counts[label] += int(images)
    packed, width = top.tobytes(), _TOP.itemsize
    blobs = [packed[start * width : end * width] for start, end in zip(ends - lengths, ends, strict=True)]
    certainty = pc.fill_null(pc.coalesce(table["score"], table["margin"]), 0.0)
    texts = [pc.fill_null(table[name], "").to_pylist() for name in ("image", "source", "status")]
    return zip(
        *texts,
        table["score"].to_pylist(),
        certainty.to_pylist(),
        first.tolist(),
        blobs,
        [shard] * len(places),
        places.tolist(),
        strict=True,
    )


def _scores(column: pa.ChunkedArray, lengths: np.ndarray) -> np.ndarray:
    """[sum of lengths] float32: the probabilities of all top classes one after another; NaN for a row without them."""
    known = np.asarray(column.is_valid())
    scores = np.full(int(lengths.sum()), np.nan, np.float32)
    scores[np.repeat(known, lengths)] = pc.list_flatten(column.drop_null()).to_numpy()
    return scores
