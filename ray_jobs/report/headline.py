"""The top of a report: what was done, what became of the images, and how good that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

from ray_jobs.inputs.ground_truth import unused_labels
from ray_jobs.report.markup import element, listing, number, outside, percent, plural
from ray_jobs.report.report_data import Contents
from ray_jobs.report.tiles import tile

HELD_OUT = {
    "val": "on {images} set aside",
    "folds": "by cross-validation inside the {images}",
    "text": "on {images}, one a class, so rather too low",
}


def headline(contents: Contents) -> list[Element]:
    """Title, warnings, counts, and accuracy as far as there is any to tell."""
    return [_title(contents), *_warnings(contents.metrics), _counts(contents.metrics), *_quality(contents)]


def _title(contents: Contents) -> Element:
    job, metrics, plan = contents.job, contents.metrics, contents.plan
    find_candidates = (
        f", the doubtful ones by {escalated['method']}," if (escalated := metrics.get("escalated")) else ""
    )
    examples = plural(_examples(plan, metrics), "example")
    line = (
        f"{plural(metrics['images'], 'image')}, labelled by the method {metrics['method']} (backbone: {job.clip.model})"
        f"{find_candidates} from {examples} of {plural(plan['classes'], 'class', 'classes')}"
    )
    return element("header", element("h1", job.job.name), element("p", line, class_="lead"))


def _examples(plan: Mapping[str, Any], metrics: Mapping[str, Any]) -> int:
    """How many could be read."""
    return int(plan["examples"] - metrics.get("unreadable_examples", {"examples": 0})["examples"])


def _warnings(metrics: Mapping[str, Any]) -> Iterator[Element]:
    if metrics["failed_units"]:
        yield _notice(f"{plural(metrics['failed_units'], 'unit')} of work failed. Run the job again to try them again.")
    elif not metrics["complete"]:
        yield _notice("This run is not complete. Run the job again to resume.")
    if metrics["too_many_unreadable"]:
        yield _notice("More images are unreadable than the job allows.")
    if (missing := metrics.get("unreadable_examples")) and missing["examples"]:
        yield element("p", *_left_out(missing), role="alert", class_="notice")
    if skipped := metrics["skipped_entries"]:
        told = f"{plural(skipped, 'entry', 'entries')} passed over as no images by their names, such as "
        yield element("p", told, *_names(metrics["skipped_examples"]), class_="note")


def _left_out(missing: Mapping[str, Any]) -> Iterator[Element | str]:
    """See `ray_jobs.inputs.unreadable_examples`."""
    yield f"{plural(missing['examples'], 'example')} could not be read and left out, such as "
    yield from _names(missing["such_as"])
    if missing["classes"]:
        yield ". No example is left, and only the name is known, of "
        yield from _names(missing["classes"])


def _names(names: Sequence[str]) -> list[Element | str]:
    return [node for name in names for node in (", ", outside(name))][1:]


def _notice(text: str) -> Element:
    return element("p", text, role="alert", class_="notice")


def _counts(metrics: Mapping[str, Any]) -> Element:
    images = metrics["images"]
    named = (("ok", "Labelled", "label given"), ("abstained", "Abstained", "label withheld"))
    tiles = [tile("Images", number(images), "in the archive")]
    for status, name, meaning in (*named, ("unreadable", "Unreadable", "reasons below")):
        share = percent(metrics[status] / images if images else None)
        tiles.append(tile(name, number(metrics[status]), f"{share}, {meaning}", class_=status))
    return listing(tiles, class_="tiles")


def _quality(contents: Contents) -> Iterator[Element]:
    """What was measured against given labels; the shots alone stand for it where there are none."""
    measured, held_out = contents.metrics["measured"], contents.metrics["held_out"]
    if measured is not None:
        told = (
            f"Measured on {plural(measured['labelled_images'], 'image')} whose labels were given, and not learned from."
        )
        yield element("h2", "How good it is")
        yield element("p", told, class_="note")
        yield listing(_measured(measured), class_="tiles")
        yield from (element("p", reason, class_="note") for reason in unused_labels(contents.metrics))
        yield element("p", f"For comparison: {_on_the_shots(held_out)}.", class_="note")
    else:
        yield element("h2", "How good it is likely to be")
        why = " ".join(unused_labels(contents.metrics)) or "No labels of the archive were given to measure with."
        told = f"{why} All that is known is {_on_the_shots(held_out)}."
        yield element("p", told, class_="note")
        if held_out["accuracy"] is not None:
            yield listing(_expected(held_out), class_="tiles")


def _measured(measured: Mapping[str, Any]) -> Iterator[Element]:
    yield tile("Accuracy", percent(measured["accuracy"]), "of all labels, withheld ones too")
    yield tile("Accuracy where given", percent(measured["accuracy_of_accepted"]), "of the labels not withheld")
    yield tile("Coverage", percent(measured["coverage"]), "of the images got a label")
    yield tile("Calibration error", percent(measured["ece"]), "mean gap of score and accuracy")


def _expected(held_out: Mapping[str, Any]) -> Iterator[Element]:
    yield tile("Accuracy", percent(held_out["accuracy"]), "on the shots")
    yield tile("Calibration error", percent(held_out["ece_after"]), "on the shots, after calibration")
    if held_out["max_error"] is not None:
        yield tile("Coverage", percent(held_out["coverage"]), "of the shots would get a label")


def _on_the_shots(held_out: Mapping[str, Any]) -> str:
    if held_out["accuracy"] is None:
        return "that the shots are too few to estimate anything from"
    how = HELD_OUT[held_out["source"]].format(images=plural(held_out["images"], "shot"))
    numbers = f"accuracy {percent(held_out['accuracy'])}, calibration error {percent(held_out['ece_after'])}"
    return f"what the shots say, estimated {how}: {numbers}"
