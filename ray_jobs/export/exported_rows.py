"""The rows of a run that are exported, read part by part, with the bytes of their images where a format needs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pyarrow as pa

from cluster.records import Record, Shard, Source, pick
from ray_jobs.export.filters import ROW, Filters
from ray_jobs.export.people_labels import LABELLED_BY, with_answers
from ray_jobs.labels.label_event import LabelEvent
from ray_jobs.output.feature_parts import view_table
from ray_jobs.output.layout import shard_of
from ray_jobs.output.predictions import PredictionOrigin
from ray_jobs.output.runs import Run

T = TypeVar("T")

BATCH = 250
"""Rows that are Python objects at a time."""
GONE = "it is not in the archive any more, or has changed since it was classified"
SUCH_AS = 5
URL = "url"


@dataclass(frozen=True, slots=True)
class ExportedRow:
    """A prediction.

    Attributes:
        values: by column, in the order of the columns.
    """

    values: Mapping[str, Any]

    @property
    def image(self) -> str:
        """Key of the image in the archive."""
        return str(self.values["image"])

    @property
    def source(self) -> str:
        """File that holds the image, relative to the archive; "" where the image is a file itself."""
        return self.values.get("source") or ""

    @property
    def label(self) -> str | None:
        """Class; None unless `status` is ok."""
        label: str | None = self.values["label"]
        return label

    @property
    def guess(self) -> str | None:
        """Class, or the most probable one where the label is withheld; None where the image is unreadable."""
        return self.label or next(iter(self.values["top_labels"] or ()), None)

    @property
    def score(self) -> float | None:
        """Calibrated probability of the most probable class; None where there is none."""
        score: float | None = self.values["score"]
        return score

    @property
    def status(self) -> str:
        """See `ray_jobs.output.predictions.COLUMNS`."""
        return str(self.values["status"])

    @property
    def url(self) -> str | None:
        """Where the image lies; None where the predictions do not say."""
        url: str | None = self.values[URL]
        return url

    @property
    def labelled_by(self) -> str | None:
        """Who labelled the image; None where the label is predicted."""
        return self.values.get(LABELLED_BY)

    def details(self) -> dict[str, Any]:
        """Return what formats keep beside the label: key, score, status and, where people labelled, who did."""
        names = ("image", "score", "status", "decided_by", LABELLED_BY)
        return {name: self.values[name] for name in names if self.values.get(name) is not None}


@dataclass
class Counts:
    """What has been read.

    Attributes:
        rows: that were exported.
        skipped: by filter, rows that it was the first to refuse.
        unreadable: rows whose images could not be read, of formats that need them; none of them was exported.
        such_as: key and reason of the first few of these.
        formulas: texts that a spreadsheet would take for formulas.
    """

    rows: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0
    such_as: list[str] = field(default_factory=list)
    formulas: int = 0

    def add_unreadable(self, image: str, reason: str) -> None:
        """Count an image that could not be read."""
        self.unreadable += 1
        if len(self.such_as) < SUCH_AS:
            self.such_as.append(f"{image}: {reason}")


@dataclass(frozen=True)
class ExportedRows:
    """The rows of a run that meet the filters, in the order of the archive. One part is in memory at a time.

    Attributes:
        run: the run.
        parts: of its predictions, paths in its store.
        classes: K names, in label order.
        filters: that rows meet.
        on_rows: called with the path of a part and a number of its rows that are done, or skipped.
        source: opens the archive; None where the format needs no images.
        links: whether the format names images by their URLs instead of copying them.
        answers: by key, what people said, which wins over predictions; None leaves predictions as they are.
        counts: of what was read.
    """

    run: Run
    parts: Sequence[str]
    classes: Sequence[str]
    filters: Filters
    on_rows: Callable[[str, int], None]
    source: Callable[[], Source] | None = None
    links: bool = False
    answers: Mapping[str, LabelEvent] | None = None
    counts: Counts = field(default_factory=Counts)

    def __iter__(self) -> Iterator[ExportedRow]:
        """Read the rows without their images.

        Raises:
            JobError: a part is damaged.
            StorageError: storage does not respond.
        """
        for part in self.parts:
            for row in self._rows(part, self._read(part)):
                self.counts.rows += 1
                yield row

    def with_images(self) -> Iterator[tuple[ExportedRow, bytes]]:
        """Read the rows with their images; those whose images cannot be read are counted and left out.

        Raises:
            JobError: a part is damaged.
            ClusterError: the archive or the output cannot be read.
        """
        yield from self.measured(lambda data: data, GONE)

    def with_images_or_links(self) -> Iterator[tuple[ExportedRow, bytes | None]]:
        """Read the rows, with their images unless `links`. Raises as `with_images`."""
        if self.links:
            for row in self:
                yield row, None
        else:
            yield from self.with_images()

    def measured(self, measure: Callable[[bytes], T | None], reason: str) -> Iterator[tuple[ExportedRow, T]]:
        """Read the rows with something about their images.

        Args:
            measure: takes the bytes of an image; None if they are of no use.
            reason: why such images count as unreadable.

        Raises:
            JobError, ClusterError: as `with_images`.
        """
        assert self.source is not None
        left = {shard_of(part): part for part in self.parts}
        for shard in self.source().shards():
            if (part := left.pop(shard.fingerprint, None)) is not None:
                for row, data in self._of_shard(shard, part):
                    if (found := measure(data)) is None:
                        self.counts.add_unreadable(row.image, reason)
                        continue
                    self.counts.rows += 1
                    yield row, found
            if not left:
                return
        for part in left.values():
            for row in self._rows(part, self._read(part)):
                self.counts.add_unreadable(row.image, GONE)

    @property
    def columns(self) -> list[str]:
        """Names of the columns of a row, in order."""
        table = self._selected(self.run.prediction_schema.empty_table())
        return [name for name in table.column_names if name != ROW]

    def _of_shard(self, shard: Shard, part: str) -> Iterator[tuple[ExportedRow, bytes]]:
        table = self._read(part)
        places = table[ROW].to_pylist()
        records = iter(pick(shard, places)) if places else iter(())
        for row in self._rows(part, table):
            if (data := self._image(row, next(records, None))) is not None:
                yield row, data

    def _image(self, row: ExportedRow, record: Record | None) -> bytes | None:
        if record is None or record.key != row.image:
            self.counts.add_unreadable(row.image, GONE)
        elif record.data is None:
            self.counts.add_unreadable(row.image, record.error or GONE)
        else:
            return record.data
        return None

    def _rows(self, part: str, table: pa.Table) -> Iterator[ExportedRow]:
        for batch in table.drop_columns([ROW]).to_batches(max_chunksize=BATCH):
            yield from map(ExportedRow, batch.to_pylist())
            self.on_rows(part, len(batch))

    def _read(self, part: str) -> pa.Table:
        """Read the rows of a part that meet the filters."""
        table = view_table(self.run.store, part)
        selected = self._selected(table)
        self.on_rows(part, len(table) - len(selected))
        return selected

    def _selected(self, table: pa.Table) -> pa.Table:
        origin = PredictionOrigin.from_schema(table.schema)
        current = table if self.answers is None else with_answers(table, self.answers)
        selected, skipped = self.filters.select(current)
        self.counts.skipped.update(skipped)
        urls = [
            None if origin is None else _as_text(origin.image_url(image, source or ""))
            for image, source in zip(selected["image"].to_pylist(), selected["source"].to_pylist(), strict=True)
        ]
        return selected.append_column(URL, pa.array(urls, pa.string()))


def _as_text(url: str) -> str:
    """Return a URL with bytes that are not UTF-8 escaped, which no format can hold."""
    return url.encode("utf-8", "backslashreplace").decode()


def with_default_statuses(filters: Filters, statuses: tuple[str, ...]) -> Filters:
    """Return the filters, with these statuses if they name none."""
    return filters if filters.statuses is not None else replace(filters, statuses=statuses)
