"""Labels as tables: import answers that were given elsewhere, and export what the ledger holds."""

from __future__ import annotations

import csv
import io
import posixpath
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, get_args

from cluster import Storage
from cluster.storage.settings import DEFAULT_STORAGE
from fewshot.data import Example, problem_with_label
from fewshot.data.table_rows import Row, Table, read_csv, read_jsonl, read_parquet
from fewshot.errors import DataError, raise_if_any
from ray_jobs.errors import JobError
from ray_jobs.inputs.example_contents import problem_with_image
from ray_jobs.inputs.example_tables import TABLES, read_text
from ray_jobs.labels.current_labels import CurrentLabels
from ray_jobs.labels.kept_images import Kept, keep_images, without_copies
from ray_jobs.labels.label_event import Answer, LabelEvent, Reason
from ray_jobs.labels.label_ledger import new_label
from ray_jobs.labels.labelled_archive import LabelledArchive, PredictedImage
from ray_jobs.results.json_format import JsonValue

COLUMNS = ("image", "label", "answer", "by", "reason", "draw", "probability")
"""Of a table to import; image, and label or answer, are required."""
PREDICTED_COLUMNS = ("predicted_label", "predicted_score")
EXPORTED = ("image", "label", "answer", "by", "time", "reason", "draw", "probability", *PREDICTED_COLUMNS)
BATCH = 200
"""Images that are read, copied and written to the ledger at a time: less than that is lost when an import is killed."""


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """A row of a table to import.

    Attributes:
        place: of the row, for errors.
        image: key of the image.
        answer: kind of the answer.
        label: the class, where the answer is one.
        by: who gave it; None for whoever imports it.
        reason: why the image was shown.
        draw: of an audit; None otherwise.
        probability: with which the image was drawn, in (0, 1]; None where it is unknown.
    """

    place: str
    image: str
    answer: Answer
    label: str | None
    by: str | None
    reason: Reason
    draw: str | None
    probability: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedLabels(JsonValue):
    """What an import came to.

    Attributes:
        ledger: URL of the ledger.
        rows: rows of the table with an answer.
        written: answers that are new in the ledger.
        replaced: of these, answers that take the place of a different one.
        repeated: of these, answers equal to an earlier one, given again for a draw or with a new copy of the image.
        known: rows whose answer the ledger had.
        unanswered: rows without an answer.
        copied: images that were copied into the ledger.
        new_classes: classes that the run did not have.
        not_found: keys of images that are not in the predictions, the first few.
        not_found_count: number of all of these.
        unreadable: images that cannot be read, the first few, with the reasons.
        unreadable_count: number of all of these.
        complete: whether every row with an answer is in the ledger.
    """

    ledger: str
    rows: int
    written: int
    replaced: int
    repeated: int
    known: int
    unanswered: int
    copied: int
    new_classes: tuple[str, ...]
    not_found: tuple[str, ...]
    not_found_count: int
    unreadable: tuple[str, ...]
    unreadable_count: int
    complete: bool


def read_answers(uri: str, storage: Storage = DEFAULT_STORAGE) -> tuple[list[GivenAnswer], int]:
    """Read a table of answers.

    Args:
        uri: a .csv, .tsv, .jsonl or .parquet file with the columns `COLUMNS`.
        storage: how S3 is reached.

    Returns:
        the answers, one for each image, and the number of rows without one.

    Raises:
        DataError: a column is missing, cells are wrong, or rows contradict each other: all are listed.
        ClusterError: it cannot be read.
    """
    name = posixpath.basename(uri)
    table = _table(uri, read_text(uri, storage), name)
    wanted = ("image", "answer" if "answer" in table.columns else "label")
    if missing := [column for column in wanted if column not in table.columns]:
        found = ", ".join(table.columns) or "none"
        raise DataError(f"{name}: no column {' and no column '.join(missing)}; found {found}")
    answers: dict[str, GivenAnswer] = {}
    problems, unanswered = [], 0
    for row in table.rows:
        try:
            given = _answer(row)
        except ValueError as error:  # DataError, too
            problems.append(f"{row.place}: {error}")
            continue
        if given is None:
            unanswered += 1
            continue
        known = answers.setdefault(given.image, given)
        if (known.answer, known.label) != (given.answer, given.label):
            problems.append(f"{given.place}: {given.image} has another answer than in {known.place}")
    raise_if_any(name, problems)
    return list(answers.values()), unanswered


def _table(uri: str, data: bytes, name: str) -> Table:
    form = TABLES.get(posixpath.splitext(uri)[1].lower())
    if form is None:
        raise DataError(f"{name}: expected a table, one of {', '.join(TABLES)}")
    if form == "parquet":
        return read_parquet(data, name, columns=COLUMNS)
    return (read_csv if form == "csv" else read_jsonl)(data, name)


def _answer(row: Row) -> GivenAnswer | None:
    """Return the answer of a row; None if there is none.

    Raises:
        ValueError: a cell is wrong.
    """
    cells = {column: _text(row.cells.get(column)) for column in COLUMNS}
    if wrong := [column for column, text in cells.items() if not _is_text(text)]:
        raise DataError(f"{wrong[0]} has characters that are no text (lone surrogates)")
    if not cells["image"]:
        raise DataError("no image")
    answer = cells["answer"] or ("label" if cells["label"] else "")
    if not answer:
        return None
    reason = cells["reason"] or "import"
    _check_word("answer", answer, get_args(Answer))
    _check_word("reason", reason, [word for word in get_args(Reason) if word != "planted"])
    label = Example("", cells["label"]).label if answer == "label" and cells["label"] else None
    if answer == "label" and label is None:
        raise DataError("the answer is a label, and there is none")
    if label is not None and (problem := problem_with_label(label)) is not None:
        raise DataError(f"label {label[:40]!r}: {problem}")
    probability = float(cells["probability"]) if cells["probability"] else None
    given = GivenAnswer(
        place=row.place,
        image=str(row.cells["image"]),  # With blanks around it, which are part of a key.
        answer=answer,  # type: ignore[arg-type]
        label=label,
        by=cells["by"] or None,
        reason=reason,  # type: ignore[arg-type]
        draw=cells["draw"] or None,
        probability=probability,
    )
    _event(given, archive="", by="", predicted=None)  # Checks what must fit.
    return given


def _check_word(column: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise DataError(f"{column} {value!r}: expected one of {', '.join(known)}")


def _is_text(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()


def import_answers(
    archive: LabelledArchive,
    answers: Sequence[GivenAnswer],
    *,
    by: str,
    unanswered: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> ImportedLabels:
    """Write answers to the ledger of an output, with copies of their images. Answers that it has are not repeated.

    Args:
        archive: the archive that the keys are of, and its run.
        answers: one for each image.
        by: who gave those without a name.
        unanswered: number of rows without an answer, for the result.
        progress: is called with numbers of answers that are done.

    Raises:
        JobError: the ledger or the run is damaged.
        StorageError: storage does not respond.
    """
    current = archive.ledger.current()
    known = {given.image: event for given in answers if (event := _known(given, archive, current)) is not None}
    uncopied = without_copies(archive.ledger.store, [each for each in known.values() if each.answer == "label"])
    lost_copies = {event.image for event in uncopied}
    new = [given for given in answers if given.image not in known or given.image in lost_copies]
    found = archive.find([given.image for given in new])
    by_image = {given.image: given for given in new}
    lost = [given.image for given in new if given.image not in found]
    unreadable: list[str] = []
    written = replaced = repeated = copied = 0
    progress(len(answers) - len(new) + len(lost))
    for start in range(0, len(found), BATCH):
        images = list(found.values())[start : start + BATCH]
        kept, reasons = _keep(archive, [image for image in images if by_image[image.image].answer == "label"])
        copied += sum(each.is_new for each in kept.values())
        unreadable += [f"{image}: {reason}" for image, reason in reasons.items()]
        chosen = [
            image
            for image in images
            if image.image not in reasons and _is_new(known.get(image.image), kept.get(image.image))
        ]
        events = [
            _event(
                by_image[image.image],
                archive=archive.source.identity,
                by=by,
                predicted=image,
                kept=kept.get(image.image),
            )
            for image in chosen
        ]
        before = [(current.answers.get(event.image_id), event) for event in events]
        equal = [(known.answer, known.label) == (new.answer, new.label) for known, new in before if known is not None]
        repeated += sum(equal)
        replaced += len(equal) - sum(equal)
        written += len(archive.ledger.append(events))
        progress(len(images))
    return ImportedLabels(
        ledger=archive.ledger.store.root,
        rows=len(answers),
        written=written,
        replaced=replaced,
        repeated=repeated,
        known=len(known),
        unanswered=unanswered,
        copied=copied,
        new_classes=_new_classes(archive, answers),
        not_found=tuple(lost[:5]),
        not_found_count=len(lost),
        unreadable=tuple(unreadable[:5]),
        unreadable_count=len(unreadable),
        complete=not lost and not unreadable,
    )


def _new_classes(archive: LabelledArchive, answers: Sequence[GivenAnswer]) -> tuple[str, ...]:
    with suppress(JobError):  # It is only a remark, and the classifier may be gone.
        return tuple(sorted({given.label for given in answers if given.label} - set(archive.classes)))
    return ()


def _known(given: GivenAnswer, archive: LabelledArchive, current: CurrentLabels) -> LabelEvent | None:
    """Return the event of an answer that the ledger has: it counts, or it is that of the same draw."""
    image = archive.image_id(given.image)
    known = current.answers.get(image) if given.draw is None else current.draws.get(given.draw, {}).get(image)
    if known is None:
        return None
    adds_nothing = given.draw is None and given.answer == "skipped"
    return known if adds_nothing or (known.answer, known.label) == (given.answer, given.label) else None


def _keep(archive: LabelledArchive, images: Sequence[PredictedImage]) -> tuple[dict[str, Kept], dict[str, str]]:
    """Copy images into the ledger; return the copies, and why the other images cannot be read, by key."""
    read = {image.image: content for image, content in archive.read(images)}
    found = {key: problem_with_image(data) if isinstance(data, bytes) else data for key, data in read.items()}
    reasons = {key: reason for key, reason in found.items() if reason is not None}
    contents = {
        archive.image_id(key): data for key, data in read.items() if isinstance(data, bytes) and key not in reasons
    }
    kept = keep_images(archive.ledger.store, contents)
    return {image.image: copy for image, copy in kept.items()}, reasons


def _is_new(known: LabelEvent | None, kept: Kept | None) -> bool:
    """Return whether an answer is to be written: the ledger has none, or its lost copy was of another content."""
    return known is None or (kept is not None and kept.content != known.content)


def _event(
    given: GivenAnswer, *, archive: str, by: str, predicted: PredictedImage | None, kept: Kept | None = None
) -> LabelEvent:
    return new_label(
        by=given.by or by,
        archive=archive,
        image=given.image,
        answer=given.answer,
        label=given.label,
        reason=given.reason,
        draw=given.draw,
        probability=given.probability,
        predicted=None if predicted is None else predicted.predicted,
        content=None if kept is None else kept.content,
    )


def labels_table(events: Mapping[str, LabelEvent]) -> bytes:
    """Return labels as a CSV table with the columns `EXPORTED`, sorted by key, which `read_answers` reads.

    Args:
        events: by key of the image, those that count.
    """
    file = io.StringIO(newline="")
    is_blank = any(image.startswith(" ") for image in events)  # Readers strip blanks that no quotes keep.
    writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL if is_blank else csv.QUOTE_MINIMAL)
    writer.writerow(EXPORTED)
    for image, event in sorted(events.items()):
        predicted = event.predicted
        of_run = ("", "") if predicted is None else (predicted.label or "", _text(predicted.score))
        row = (image, event.label or "", event.answer, event.by, event.time, event.reason)
        writer.writerow((*row, event.draw or "", _text(event.probability), *of_run))
    return file.getvalue().encode()
