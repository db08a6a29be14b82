"""The predictions of a run: what a row says, in which format, and how it is made. To add a column, add it to `COLUMNS`.

Runs with label sets have one column more, `LABEL_SET`, and so have runs that test for images of no class,
`UNKNOWN_P_VALUE`; all others do not have them. The parts of a run have one schema:
`prediction_format` is part of their paths and of the run's name, so that a run that was begun with other columns is not
continued but made anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa

from cluster import fingerprint

if TYPE_CHECKING:
    from torch import Tensor

    from fewshot.inference.predict import Predictions
    from fewshot.unknown import Decisions

PREDICTIONS_VERSION = 5
"""In the path of every part, with names and types of the columns: raised when a column changes its meaning."""
_PREFIX = "fewshot."


@dataclass(frozen=True)
class ScoredPart:
    """One shard with what the classifier gave: n images, of which r could be read.

    Attributes:
        images: n keys.
        sources: n objects that hold them; "" where the image is an object itself.
        errors: n reasons; None where the image was read.
        scored: predictions of the r images that were read, in order; rows after the r-th are ignored.
        has_scores: whether probabilities are calibrated; others are not written.
        classes: K names, in label order.
        method: name of the method that the classifier was trained with.
        classifier: method and fingerprint of the classifier.
        label_sets: [r, K] bool, the label sets of the images that were read; None without a guarantee for them.
        tested: of these images, which are of no class; None where they were not tested.
    """

    images: Sequence[str]
    sources: Sequence[str]
    errors: Sequence[str | None]
    scored: Predictions
    has_scores: bool
    classes: Sequence[str]
    method: str
    classifier: str
    label_sets: Tensor | None = None
    tested: Decisions | None = None

    @cached_property
    def read(self) -> np.ndarray:
        """[n] bool, which images were read."""
        return np.array([error is None for error in self.errors], dtype=bool)

    @cached_property
    def abstained(self) -> np.ndarray:
        """[r] bool."""
        return np.asarray(self.scored.abstained.numpy(), dtype=bool)

    @cached_property
    def unknown(self) -> np.ndarray:
        """[r] bool, which images are of no class, whether they abstain or not."""
        if self.tested is None:
            return np.zeros_like(self.abstained)
        return np.asarray(self.tested.unknown.numpy(), dtype=bool)

    def of_read(self, values: pa.Array) -> pa.Array:
        """[n], of values [r] of the images that were read; null for the others."""
        position = np.where(self.read, np.cumsum(self.read) - 1, -1)
        return values.take(pa.array(position, pa.int64(), mask=~self.read))

    def of_calibrated(self, values: pa.Array) -> pa.Array:
        """[n], of probabilities [r], or lists of them; null where they are not calibrated."""
        return self.of_read(values) if self.has_scores else pa.nulls(len(self.images), values.type)

    def names(self, labels: np.ndarray, withheld: np.ndarray | None = None) -> pa.Array:
        """Names of classes, of labels; null where `withheld`."""
        return pa.array(np.array(self.classes, dtype=object)[labels], pa.string(), mask=withheld)

    def lists(self, values: pa.Array) -> pa.Array:
        """[r] lists, of the values of all top classes one after another."""
        count, top = self.scored.top_labels.shape
        return pa.ListArray.from_arrays(pa.array(np.arange(count + 1) * top, pa.int32()), values)

    def names_in_sets(self) -> pa.Array:
        """[r] lists, of the names of the classes in each label set, in label order."""
        if self.label_sets is None:
            raise ValueError("these predictions were made without label sets")
        ends = self.label_sets.sum(dim=1).cumsum(dim=0).numpy()
        offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
        return pa.ListArray.from_arrays(offsets, self.names(self.label_sets.nonzero()[:, 1].numpy()))


@dataclass(frozen=True, slots=True)
class EscalatedRow:
    """What a diffusion model made of one row.

    Attributes:
        method: name of the method that scored the candidates.
        labels: the candidates, the winner first.
        scores: the probability of each; None where the model was not calibrated.
        margin: how much larger the runner-up's mean noise error is than the winner's, as a share of it, >= 0.
        abstained: whether the label is withheld.
    """

    method: str
    labels: tuple[str, ...]
    scores: tuple[float, ...] | None
    margin: float
    abstained: bool


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the predictions.

    Attributes:
        name: of the column.
        type: Arrow type.
        meaning: one line for readers.
        scored: makes the n values of a shard.
        escalated: makes the value of a row that a diffusion model decided; None keeps what the classifier gave.
    """

    name: str
    type: pa.DataType
    meaning: str
    scored: Callable[[ScoredPart], pa.Array]
    escalated: Callable[[EscalatedRow], object] | None = None


COLUMNS: tuple[Column, ...] = (
    Column("image", pa.string(), "Key of the image in the archive.", lambda part: pa.array(part.images, pa.string())),
    Column(
        "label",
        pa.string(),
        "Predicted class; null unless `status` is ok.",
        lambda part: part.of_read(part.names(part.scored.label.numpy(), withheld=part.abstained | part.unknown)),
        lambda row: None if row.abstained else row.labels[0],
    ),
    Column(
        "score",
        pa.float32(),
        "Calibrated probability of the most probable class, in [0, 1]; null where there is none: the image is"
        " unreadable, or what decided could not be calibrated: a classifier that learned from one example of each class"
        " or from none, or a diffusion model.",
        lambda part: part.of_calibrated(pa.array(part.scored.score.numpy(), pa.float32())),
        lambda row: None if row.scores is None else row.scores[0],
    ),
    Column(
        "margin",
        pa.float32(),
        "Lead of the most probable class: over the second probability, or, where a diffusion model decided, how much"
        " larger the runner-up's noise error is, as a share. Where `score` is null, its order still ranks images by"
        " certainty, and its size says nothing.",
        lambda part: part.of_read(pa.array(part.scored.margin.numpy(), pa.float32())),
        lambda row: row.margin,
    ),
    Column(
        "top_labels",
        pa.list_(pa.string()),
        "The most probable classes, the most probable first: the best guess also where `label` is withheld.",
        lambda part: part.of_read(part.lists(part.names(part.scored.top_labels.reshape(-1).numpy()))),
        lambda row: list(row.labels),
    ),
    Column(
        "top_scores",
        pa.list_(pa.float32()),
        "Their calibrated probabilities; null as `score`.",
        lambda part: part.of_calibrated(part.lists(pa.array(part.scored.top_scores.reshape(-1).numpy(), pa.float32()))),
        lambda row: None if row.scores is None else list(row.scores),
    ),
    Column(
        "decided_by",
        pa.string(),
        "Name of the method that decided: the classifier's, or the one of [escalate].",
        lambda part: part.of_read(pa.array([part.method] * len(part.scored), pa.string())),
        lambda row: row.method,
    ),
    Column(
        "classifier",
        pa.string(),
        "Method and fingerprint of the stored classifier, also where a diffusion model decided among its classes.",
        lambda part: part.of_read(pa.array([part.classifier] * len(part.scored), pa.string())),
    ),
    Column(
        "status",
        pa.string(),
        "ok; abstained (the label is withheld: the classifier is not certain enough of it for `max_error`, or it is not"
        " the only one of its label set); unknown (no label: the image is of no class); unreadable (see `error`).",
        lambda part: part.of_read(pa.array(_statuses(part), pa.string())).fill_null("unreadable"),
        lambda row: "abstained" if row.abstained else "ok",
    ),
    Column(
        "error",
        pa.string(),
        "Why the image has no prediction: it could not be read, or features or scores are not finite; null where it has"
        " one.",
        lambda part: pa.array(part.errors, pa.string()),
    ),
    Column(
        "source",
        pa.string(),
        "File that holds the image, relative to the archive (a tar, a table); empty where the image is a file itself.",
        lambda part: pa.array(part.sources, pa.string()),
    ),
)


LABEL_SET = Column(
    "label_set",
    pa.list_(pa.string()),
    "Classes of which the true one is with the probability that `guarantee` promises, in label order; null where the"
    " image is unreadable.",
    lambda part: part.of_read(part.names_in_sets()),
)
"""The column of runs with label sets."""
UNKNOWN_P_VALUE = Column(
    "unknown_p_value",
    pa.float64(),
    "p-value of the hypothesis that the image is of one of the classes, in (0, 1]: a low one speaks against all; null"
    " where the image is unreadable.",
    lambda part: part.of_read(pa.array([] if part.tested is None else part.tested.p_values.numpy(), pa.float64())),
)
"""The column of runs that test for images of no class."""


def columns(*, label_sets: bool = False, unknown: bool = False) -> tuple[Column, ...]:
    """Return the columns of runs with or without label sets, and with or without a test for images of no class."""
    return (*COLUMNS, *([LABEL_SET] if label_sets else []), *([UNKNOWN_P_VALUE] if unknown else []))


def prediction_schema(*, label_sets: bool = False, unknown: bool = False) -> pa.Schema:
    """Return the schema of a part, without metadata; see `columns`."""
    found = columns(label_sets=label_sets, unknown=unknown)
    return pa.schema([pa.field(column.name, column.type) for column in found])


SCHEMA = prediction_schema()


def prediction_format(*, label_sets: bool = False, unknown: bool = False) -> list[object]:
    """Return all that determines how rows are written: part of what names predictions and runs; see `columns`."""
    found = columns(label_sets=label_sets, unknown=unknown)
    written = [[column.name, str(column.type)] for column in found]
    return [PREDICTIONS_VERSION, fingerprint(written)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionOrigin:
    """Where predictions come from, in the metadata of every part: enough to find an image without the job file.

    Nothing in it is of one run: runs share parts.

    Attributes:
        archive: URL of the archive without credentials, or an absolute path.
        archive_kind: form of the archive, see `cluster.records.Source`.
    """

    archive: str
    archive_kind: str

    def metadata(self) -> dict[str, str]:
        """Return the metadata of a part's schema."""
        values = {"format_version": str(PREDICTIONS_VERSION)} | {name: getattr(self, name) for name in self.__slots__}
        return {f"{_PREFIX}{name}": value for name, value in values.items()}

    @classmethod
    def from_schema(cls, schema: pa.Schema) -> Self | None:
        """Return the origin that a part's schema states; None if it states none."""
        stated = {name.decode(): value.decode() for name, value in (schema.metadata or {}).items()}
        names = {name: f"{_PREFIX}{name}" for name in cls.__slots__}
        if not set(names.values()) <= stated.keys():
            return None
        return cls(**{name: stated[key] for name, key in names.items()})

    def image_url(self, image: str, source: str) -> str:
        """Return where an image lies.

        Args:
            image: of a row.
            source: of the same row.

        Returns:
            for a file of a folder, its URL or path; for a member of a tar, a chained fsspec URL ("tar://a.jpg::URL");
            for a row of a table, the URL of the table, or the row's own key where that is a URL.
        """
        path = original_name(image)
        if not source:
            return path if "://" in path else f"{self.archive.rstrip('/')}/{path}"
        if self.archive_kind == "parquet":
            return path if "://" in path else self._container(source)
        return f"{self.archive_kind}://{path}::{self._container(source)}"

    def _container(self, source: str) -> str:
        """Where a file of the archive lies: it is the archive, or lies below its folder (of a glob, the fixed part)."""
        name = original_name(source)
        if self.archive.rpartition("/")[2] == name:
            return self.archive
        folder = re.split(r"[*?\[]", self.archive, maxsplit=1)
        root = folder[0].rpartition("/")[0] if len(folder) > 1 else self.archive
        return f"{root.rstrip('/')}/{name}"


def build_predictions(part: ScoredPart, origin: PredictionOrigin | None = None) -> pa.Table:
    """Return the rows of a shard, in the order of its images.

    Args:
        part: the shard and what the classifier gave.
        origin: of the images; None for predictions that are an intermediate result.
    """
    metadata = {} if origin is None else origin.metadata()
    has_sets, is_tested = part.label_sets is not None, part.tested is not None
    schema = prediction_schema(label_sets=has_sets, unknown=is_tested).with_metadata(metadata)
    return pa.table([column.scored(part) for column in columns(label_sets=has_sets, unknown=is_tested)], schema=schema)


def with_escalated(table: pa.Table, rows: Mapping[int, EscalatedRow]) -> pa.Table:
    """Return predictions of a shard with the decisions of a diffusion model in their places.

    Args:
        table: from `build_predictions`.
        rows: by position in the table.
    """
    columns: dict[str, list[Any]] = {name: table[name].to_pylist() for name in table.column_names}
    for column in COLUMNS:
        if column.escalated is not None:
            for position, row in rows.items():
                columns[column.name][position] = column.escalated(row)
    return pa.table(columns, schema=table.schema)


def best_guesses(table: pa.Table) -> list[str | None]:
    """Return the most probable class of each row, also where the label is withheld; None where it is unreadable."""
    return [labels[0] if labels else None for labels in table["top_labels"].to_pylist()]


def _statuses(part: ScoredPart) -> np.ndarray:
    """[r] texts; an image that is of no class is unknown, whatever its score."""
    return np.where(part.unknown, "unknown", np.where(part.abstained, "abstained", "ok"))


def original_name(name: str) -> str:
    r"""The name of an entry, of its printable form: backslashes in it begin an escape."""
    return name.encode("latin-1", "backslashreplace").decode("unicode_escape") if "\\" in name else name
