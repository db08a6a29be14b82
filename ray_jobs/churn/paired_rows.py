"""The rows of two runs side by side, read part by part: those of a shard that both have by position, others by key.

Runs of the same archive have parts of the same shards, with rows in the same order. Where images came or went, some
shards are others. Their rows are matched by key, a bounded number at a time: then parts are read several times, but
memory does not grow with the archive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cluster.records.reading import ordered_map
from ray_jobs.churn.matched_keys import match_keys
from ray_jobs.output.feature_parts import READERS, view_table
from ray_jobs.output.layout import shard_of
from ray_jobs.output.runs import Run
from ray_jobs.results.classification_metrics import Status

MATCHED_ROWS = 1 << 19
"""Rows of a run that are matched by key at a time, about."""
WITHHELD: Mapping[Status, int] = {"abstained": -1, "unknown": -2, "unreadable": -3}
"""Codes of outcomes that are no class."""
_COLUMNS = ["image", "label", "score", "status"]
_KEYED = pa.schema(
    {
        "image": pa.string(),
        "source": pa.string(),
        "outcome": pa.int64(),
        "score": pa.float32(),
        "part": pa.int64(),
        "row": pa.int64(),
    }
)


@dataclass(frozen=True, slots=True)
class PairedRows:
    """Images that are in both runs.

    Attributes:
        images: n keys.
        before: [n] int64, codes of the outcomes in the former run, see `ClassCodes`.
        after: [n] int64, likewise in the present run.
        before_score: [n] float32, calibrated probabilities of the most probable classes; NaN where there is none.
        after_score: [n] float32, likewise.
        part: [n] int64, numbers of the parts of the present run, from 0.
        row: [n] int64, positions there, from 0.
    """

    images: pa.ChunkedArray
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    before_score: NDArray[np.float32]
    after_score: NDArray[np.float32]
    part: NDArray[np.int64]
    row: NDArray[np.int64]


@dataclass(slots=True)
class ClassCodes:
    """Numbers of class names, from 0, in the order in which they occur.

    Attributes:
        of_name: number of each name.
    """

    of_name: dict[str, int] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Name of each number."""
        return list(self.of_name)

    def encode(self, table: pa.Table, renamed: Mapping[str, str]) -> NDArray[np.int64]:
        """Return the outcome of each row: the number of its class, or one of `WITHHELD`.

        Args:
            table: n predictions, with the columns label and status.
            renamed: present names of classes that had other ones.

        Returns:
            [n] int64.
        """
        labels = pa.chunked_array(table["label"].chunks, pa.string()).combine_chunks().dictionary_encode()
        present = [renamed.get(name, name) for name in labels.dictionary.to_pylist()]
        codes = [*(self.of_name.setdefault(name, len(self.of_name)) for name in present), WITHHELD["unreadable"]]
        found: NDArray[np.int64] = np.array(codes, np.int64)[labels.indices.fill_null(len(present)).to_numpy()]
        for status, code in WITHHELD.items():
            found[pc.equal(table["status"], status).to_numpy()] = code
        return found


@dataclass
class PairedRuns:
    """Two runs of an archive. Iterate once.

    Attributes:
        former: the run before.
        present: the run after it.
        renamed: present names of classes that had other ones in the former run.
        codes: of all classes that were read.
        new: number of images that only the present run has, known after the iteration.
        gone: number of images that only the former run has, likewise.
    """

    former: Run
    present: Run
    renamed: Mapping[str, str]
    codes: ClassCodes = field(default_factory=ClassCodes)
    new: int = 0
    gone: int = 0

    def __iter__(self) -> Iterator[PairedRows]:
        """Yield the images that are in both runs.

        Raises:
            JobError: a part is missing or damaged.
            StorageError: storage does not respond.
        """
        before = {shard_of(part): part for part in self.former.prediction_parts()}
        after = {shard_of(part): (number, part) for number, part in enumerate(self.present.prediction_parts())}

        def read(shard: str) -> tuple[str, pa.Table, pa.Table]:
            return shard, *self._read_both(before[shard], after[shard][1])

        paired, images = set[str](), 0
        for shard, one, other in ordered_map(read, [shard for shard in after if shard in before], READERS):
            if one["image"].equals(other["image"]):
                paired.add(shard)
                images += len(other)
                yield self._side_by_side(one, other, after[shard][0])
        former = [part for shard, part in before.items() if shard not in paired]
        present = dict(place for shard, place in after.items() if shard not in paired)
        if former or present:
            left = max(_images(self.former), _images(self.present)) - images
            yield from self._by_key(former, present, passes=max(1, -(-left // MATCHED_ROWS)))

    def _read_both(self, before: str, after: str) -> tuple[pa.Table, pa.Table]:
        """Read a part of each run; one that they share is read once."""
        other = view_table(self.present.store, after, columns=_COLUMNS)
        if before == after and self.former.store.root == self.present.store.root:
            return other, other
        return view_table(self.former.store, before, columns=_COLUMNS), other

    def _side_by_side(self, one: pa.Table, other: pa.Table, number: int) -> PairedRows:
        """Return rows that are in the same order."""
        return PairedRows(
            images=other["image"],
            before=self.codes.encode(one, self.renamed),
            after=self.codes.encode(other, {}),
            before_score=_scores(one),
            after_score=_scores(other),
            part=np.full(len(other), number, np.int64),
            row=np.arange(len(other), dtype=np.int64),
        )

    def _by_key(self, before: Sequence[str], after: Mapping[int, str], *, passes: int) -> Iterator[PairedRows]:
        """Match the rows of parts, in each pass those with some of the keys."""
        for turn in range(passes):
            chosen = partial(_of_pass, turn=turn, passes=passes)
            one = self._keyed(self.former, dict(enumerate(before)), self.renamed, chosen)
            other = self._keyed(self.present, after, {}, chosen)
            rows, others = match_keys(one, other)
            self.gone += len(one) - len(rows)
            self.new += len(other) - len(others)
            one, other = one.take(rows), other.take(others)
            yield PairedRows(
                images=other["image"],
                before=one["outcome"].to_numpy(),
                after=other["outcome"].to_numpy(),
                before_score=_scores(one),
                after_score=_scores(other),
                part=other["part"].to_numpy(),
                row=other["row"].to_numpy(),
            )

    def _keyed(
        self, run: Run, parts: Mapping[int, str], renamed: Mapping[str, str], chosen: partial[NDArray[np.bool_]]
    ) -> pa.Table:
        """Return the rows of some parts of a run that are chosen by their keys, with their outcomes."""

        def read(part: str) -> pa.Table:
            return view_table(run.store, part, columns=[*_COLUMNS, "source"])

        tables = [_KEYED.empty_table()]
        for number, table in zip(parts, ordered_map(read, parts.values(), READERS), strict=True):
            columns = [
                table["image"],
                pc.fill_null(table["source"], ""),
                pa.array(self.codes.encode(table, renamed)),
                table["score"],
                pa.array(np.full(len(table), number, np.int64)),
                pa.array(np.arange(len(table), dtype=np.int64)),
            ]
            tables.append(pa.table(columns, schema=_KEYED).filter(pa.array(chosen(table["image"]))))
        return pa.concat_tables(tables)


def _of_pass(keys: pa.ChunkedArray, *, turn: int, passes: int) -> NDArray[np.bool_]:
    """[n] bool, whether keys belong to a pass: each belongs to one."""
    if passes == 1:
        return np.ones(len(keys), bool)
    return np.array([crc32(key.encode("utf-8", "surrogatepass")) % passes == turn for key in keys.to_pylist()], bool)


def _images(run: Run) -> int:
    """Number of images of a run, about; 0 where it is not known."""
    return (run.plan.archive.images if run.plan.archive is not None else None) or 0


def _scores(table: pa.Table) -> NDArray[np.float32]:
    """[n] float32; NaN for null."""
    return np.asarray(pc.fill_null(table["score"], np.nan).to_numpy(), np.float32)
