"""Labels that people gave, in the place of predictions. They are those of the output's ledger, see `docs/labels.md`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa

from cluster import Storage
from ray_jobs.labels.label_event import LabelEvent
from ray_jobs.labels.labelled_archive import LabelledArchive
from ray_jobs.output.runs import Run

LABELLED_BY = "labelled_by"
"""Column with who labelled an image; null where its label is predicted."""


def read_answers(run: Run, storage: Storage) -> dict[str, LabelEvent]:
    """Return what people said about images of a run's archive, by key, those that they skipped left out.

    Raises:
        JobError: the ledger is damaged, or the archive is not known.
        ClusterError: the archive or the output cannot be reached.
    """
    archive = LabelledArchive.open(run.url, storage)
    answers = archive.ledger.current().of_archive(archive.source.identity)
    return {image: event for image, event in answers.items() if event.answer != "skipped"}


def with_new_classes(classes: Sequence[str], answers: Mapping[str, LabelEvent]) -> tuple[str, ...]:
    """Return the classes, with those that only people gave behind them, by name."""
    given = {event.label for event in answers.values() if event.label is not None}
    return (*classes, *sorted(given.difference(classes)))


def with_answers(table: pa.Table, answers: Mapping[str, LabelEvent]) -> pa.Table:
    """Return predictions with what people said in their places: label and status, and no score; see `LABELLED_BY`."""
    events = [answers.get(image) for image in table["image"].to_pylist()]
    if any(event is not None for event in events):
        table = _replaced(table, "label", events, lambda event: event.label)
        table = _replaced(table, "status", events, _status)
        table = _replaced(table, "score", events, lambda _: None)
    people = pa.array([None if event is None else event.by for event in events], pa.string())
    return table.append_column(LABELLED_BY, people)


def _replaced(
    table: pa.Table, name: str, events: Sequence[LabelEvent | None], value: Callable[[LabelEvent], str | None]
) -> pa.Table:
    """Return the table with a column in which rows have the value of their event, if they have one."""
    field = table.schema.field(name)
    values = [
        predicted if event is None else value(event)
        for predicted, event in zip(table[name].to_pylist(), events, strict=True)
    ]
    return table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))


def _status(event: LabelEvent) -> str:
    return "ok" if event.answer == "label" else event.answer
