"""The predictions of a run as a table, with ways into the libraries that people use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import pandas
    import polars


@dataclass(frozen=True, slots=True)
class PredictionTable:
    """Predictions, a row for each image, in the order of the archive.

    It supports Arrow's PyCapsule interface: DuckDB, Polars, pandas and pyarrow read it as it is, without a copy.

    Attributes:
        table: the Arrow table, with the columns of `ray_jobs.output.predictions.columns`.
    """

    table: pa.Table

    def __len__(self) -> int:
        """Return the number of images."""
        return int(self.table.num_rows)

    def __getitem__(self, column: str) -> pa.ChunkedArray:
        """Return a column.

        Raises:
            KeyError: there is no such column.
        """
        return self.table[column]

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Export the table, see Arrow's PyCapsule interface."""
        return self.table.__arrow_c_stream__(requested_schema)

    @property
    def column_names(self) -> list[str]:
        """Names of the columns."""
        return list(self.table.column_names)

    def to_pandas(self) -> pandas.DataFrame:
        """Return a pandas DataFrame.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        return self.table.to_pandas()

    def to_polars(self) -> polars.DataFrame:
        """Return a Polars DataFrame.

        Raises:
            ModuleNotFoundError: Polars is not installed.
        """
        try:
            import polars
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("to_polars needs Polars: pip install polars") from error
        return polars.DataFrame(self.table)

    def to_pylist(self) -> list[dict[str, Any]]:
        """Return a dict for each image."""
        rows: list[dict[str, Any]] = self.table.to_pylist()
        return rows
