"""Which rows are exported, and how many are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from fewshot.errors import UnknownNameError
from ray_jobs.errors import JobError
from ray_jobs.export.format_table import ALL
from ray_jobs.export.people_labels import LABELLED_BY
from ray_jobs.output.predictions import best_guesses

ROW = "row"
"""Column with the number of a row in its part, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Conditions that every exported row meets.

    Attributes:
        statuses: one of these; None takes the format's own.
        classes: its label is one of these, or, where it has none, its best guess; None takes every class.
        min_score: its score is at least this, or a person labelled it; no other row without a score passes. None takes
            every row.
    """

    statuses: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    min_score: float | None = None

    def check(self, classes: Iterable[str]) -> None:
        """Check names and numbers before anything is read.

        Args:
            classes: that the run knows.

        Raises:
            UnknownNameError: there is no such status or class.
            JobError: `min_score` is none.
        """
        known = set(classes)
        for name in self.statuses or ():
            if name not in ALL:
                raise UnknownNameError("status", name, ALL)
        for name in self.classes or ():
            if name not in known:
                raise UnknownNameError("class", name, known)
        if self.min_score is not None and not 0.0 <= self.min_score <= 1.0:
            raise JobError([f"--min-score: expected a number from 0 to 1, got {self.min_score}"])

    def select(self, table: pa.Table) -> tuple[pa.Table, Counter[str]]:
        """Return the rows of a part that meet all conditions, with the column `ROW` more.

        Returns:
            the rows, and by filter the number of rows that it was the first to refuse.
        """
        skipped: Counter[str] = Counter()
        left = table.append_column(ROW, pa.array(range(len(table)), pa.int64()))
        for name, condition in self._conditions():
            kept = left.filter(condition(left))
            if len(kept) < len(left):
                skipped[name] = len(left) - len(kept)
            left = kept
        return left, skipped

    def _conditions(self) -> Iterator[tuple[str, _Condition]]:
        if self.statuses is not None:
            yield "status", _IsIn("status", self.statuses)
        if self.classes is not None:
            yield "class", _IsIn("class", self.classes)
        if self.min_score is not None:
            yield "min_score", _AtLeast(self.min_score)


@dataclass(frozen=True, slots=True)
class _IsIn:
    column: str
    values: tuple[str, ...]

    def __call__(self, table: pa.Table) -> pa.ChunkedArray:
        values = class_of(table) if self.column == "class" else table[self.column]
        return pc.is_in(values, pa.array(self.values, pa.string()))


@dataclass(frozen=True, slots=True)
class _AtLeast:
    score: float

    def __call__(self, table: pa.Table) -> pa.ChunkedArray:
        limit = pa.scalar(self.score, pa.float32())  # As scores are stored: 0.9 is not below itself.
        passes = pc.fill_null(pc.greater_equal(table["score"], limit), False)
        return pc.or_(passes, pc.is_valid(table[LABELLED_BY])) if LABELLED_BY in table.column_names else passes


_Condition = _IsIn | _AtLeast


def class_of(table: pa.Table) -> pa.Array:
    """Return the label of each row; where it is withheld, the best guess; null where the image is unreadable."""
    return pc.coalesce(table["label"].combine_chunks(), pa.array(best_guesses(table), pa.string()))
