"""The top of a report: what was done, the status of the images, and how good the labels are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element

from ray_jobs.inputs.ground_truth import unused_labels
from ray_jobs.job_file.sections import Job
from ray_jobs.report.markup import element, listing, number, outside, percent, plural, skipped_entries, tile
from ray_jobs.report.report_data import Contents
from ray_jobs.results.classification_metrics import (
    ClassificationMetrics,
    HeldOut,
    HeldOutSource,
    Measured,
    Status,
    UnreadableExamples,
)

HELD_OUT: Mapping[HeldOutSource, str] = {
    "val": "on {images} set aside",
    "folds": "by cross-validation inside the {images}",
    "text": "on {images}, one a class, so rather too low",
}
STATUS_TILES: Mapping[Status, tuple[str, str]] = {
    "ok": ("Labelled", "label given"),
    "abstained": ("Abstained", "label withheld"),
    "unknown": ("Unknown", "of no class"),
    "unreadable": ("Unreadable", "reasons below"),
}
"""Title and meaning of the tile of each status."""


def headline(contents: Contents) -> list[Element]:
    """Return title, warnings, counts, and accuracy as far as it is known."""
    return [_title(contents), *_warnings(contents.metrics), _counts(contents.metrics), *_quality(contents)]


def _title(contents: Contents) -> Element:
    job, metrics, plan = contents.job, contents.metrics, contents.plan
    escalated = f", the least certain ones by {metrics.escalated.method}," if metrics.escalated is not None else ""
    classes = plural(plan.classes, "class", "classes")
    line = (
        f"{plural(metrics.images, 'image')}, labelled by the method {metrics.method} (backbone: {job.clip.title})"
        f"{escalated} from {_examples(contents)} of {classes}"
    )
    return element("header", element("h1", job.job.name), element("p", line, class_="lead"))


def _examples(contents: Contents) -> str:
    """The examples that could be read, with their number if it is known."""
    given = contents.plan.examples
    return "examples" if given is None else plural(given - contents.metrics.unreadable_examples.examples, "example")


def _warnings(metrics: ClassificationMetrics) -> Iterator[Element]:
    if metrics.failed_units:
        yield _notice(f"{plural(metrics.failed_units, 'unit')} of work failed. Run the job again to try them again.")
    elif not metrics.complete:
        yield _notice("This run is not complete. Run the job again to resume.")
    if 0 < metrics.images == metrics.unreadable:
        yield _notice("Every image is unreadable; the reasons are below.")
    elif metrics.too_many_unreadable:
        yield _notice("More images are unreadable than the job allows.")
    if metrics.unreadable_examples.examples:
        yield element("p", *_left_out(metrics.unreadable_examples), role="alert", class_="notice")
    if metrics.skipped_entries:
        skipped = f"{skipped_entries(metrics.skipped_entries)}, such as "
        yield element("p", skipped, *_names(metrics.skipped_examples), class_="note")


def _left_out(missing: UnreadableExamples) -> Iterator[Element | str]:
    """See `ray_jobs.inputs.unreadable_examples`."""
    yield f"{plural(missing.examples, 'example')} could not be read and left out, such as "
    yield from _names(missing.such_as)
    if missing.classes:
        yield ". No example is left, and only the name is known, of "
        yield from _names(missing.classes)


def _names(names: Sequence[str]) -> list[Element | str]:
    return [node for name in names for node in (", ", outside(name))][1:]


def _notice(text: str) -> Element:
    return element("p", text, role="alert", class_="notice")


def _counts(metrics: ClassificationMetrics) -> Element:
    tiles = [tile("Images", number(metrics.images), "in the archive")]
    for status in metrics.statuses:
        name, meaning = STATUS_TILES[status]
        share = percent(metrics.count(status) / metrics.images if metrics.images else None)
        tiles.append(tile(name, number(metrics.count(status)), f"{share}, {meaning}", class_=status))
    return listing(tiles, class_="tiles")


def _quality(contents: Contents) -> Iterator[Element]:
    """What was measured against given labels; where there are none, the examples alone stand for it."""
    measured, held_out = contents.metrics.measured, contents.metrics.held_out
    unused = unused_labels(contents.metrics.given_labels, is_tested=contents.metrics.unknown is not None)
    if measured is not None:
        images = plural(measured.labelled_images, "image")
        yield element("h2", "How good it is")
        yield element("p", f"Measured on {images} whose labels were given{_trained_on(contents.job)}", class_="note")
        yield listing(_measured(measured), class_="tiles")
        yield from (element("p", reason, class_="note") for reason in unused)
        if held_out.accuracy is not None:
            yield element("p", f"For comparison: {_on_the_examples(held_out)}.", class_="note")
    else:
        yield element("h2", "How good it is likely to be")
        why = " ".join(unused) or "No labels of the archive were given to measure with."
        yield element("p", f"{why} {_what_is_known(held_out, is_audited=contents.audit is not None)}", class_="note")
        if held_out.accuracy is not None:
            yield listing(_expected(held_out), class_="tiles")


def _trained_on(job: Job) -> str:
    """Return that the classifier was not trained on these labels; of one that another job trained, this is unknown."""
    return " and not trained on." if job.classifier.from_ is None else "."


def _measured(measured: Measured) -> Iterator[Element]:
    yield tile("Accuracy", percent(measured.accuracy), "of all labels, withheld ones too")
    yield tile("Accuracy where given", percent(measured.accuracy_of_accepted), "of the labels not withheld")
    yield tile("Coverage", percent(measured.coverage), "of the images got a label")
    yield tile("Calibration error", percent(measured.ece), "mean gap of score and accuracy")


def _expected(held_out: HeldOut) -> Iterator[Element]:
    yield tile("Accuracy", percent(held_out.expected_accuracy), "on the examples")
    if held_out.calibrates:
        yield tile("Calibration error", percent(held_out.ece_after), "on the examples, after calibration")
    if held_out.max_error is not None:
        yield tile("Coverage", percent(held_out.coverage), "of the examples would get a label")


def _what_is_known(held_out: HeldOut, *, is_audited: bool) -> str:
    if held_out.accuracy is None:
        audit = "an audit is below" if is_audited else "fewshot audit estimates how many labels are right"
        return f"There are too few examples to estimate anything from: {audit}."
    known = "An audit is below; this is" if is_audited else "All that is known is"
    return f"{known} {_on_the_examples(held_out)}."


def _on_the_examples(held_out: HeldOut) -> str:
    how = HELD_OUT[held_out.source].format(images=plural(held_out.images, "example"))
    numbers = f"accuracy {percent(held_out.expected_accuracy)}"
    if held_out.calibrates:
        numbers += f", calibration error {percent(held_out.ece_after)}"
    if held_out.accuracy != held_out.expected_accuracy:
        numbers += f"; accuracy on the examples that hyperparameters were chosen on {percent(held_out.accuracy)}"
    return f"what the examples say, estimated {how}: {numbers}"
