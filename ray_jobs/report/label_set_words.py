"""What is said of label sets, on the page and on the terminal: what they promise, what not, and what was found."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from ray_jobs.report.markup import element, listing, number, percent, plural, tile
from ray_jobs.results.label_sets import LabelSetPlan, LabelSetSummary

NOT_PROMISED = (
    "Nothing is promised of the labels given, of which more may be wrong, of a single class, or of an archive that "
    "differs from the examples."
)


def promise(sets: LabelSetSummary) -> str:
    """Return in three sentences what label sets promise, what they do not, and which labels are given."""
    contains = f"{100 * (1.0 - sets.label_set_error):g}\u00a0%"
    return (
        f"A label set contains the true label with a probability of at least {contains}, over all images and all draws"
        f" of the {plural(sets.examples, 'example')}, if the archive is drawn like them. {NOT_PROMISED} A label is"
        " given where it is the only one of its set."
    )


def found(sets: LabelSetSummary) -> str:
    """Return a line of what the label sets of an archive hold."""
    size = "–" if sets.mean_size is None else f"{sets.mean_size:.2f}"
    measured = ""
    if sets.containing is not None:
        images = plural(sets.known, "image")
        measured = f"; of {images} with a given label, {percent(sets.containing)} have it in their set"
    return (
        f"label sets: {size} labels on average; exactly one in {number(sets.single)} of {plural(sets.images, 'image')},"
        f" {number(sets.labelled)} of them labelled; none in {number(sets.empty)}, all classes in {number(sets.full)}"
        f"{measured}"
    )


def planned(plan: LabelSetPlan) -> str:
    """Return a line of what the label sets of a job take."""
    cost = ""
    if plan.cpu_hours is not None:
        cost = f"; the sets of all images take {_duration(plan.cpu_hours)} of a CPU"
    return (
        f"label_set_error = {plan.label_set_error:g} takes at least {plural(plan.needed, 'example')}, and there are"
        f" {plan.examples:,}{cost}"
    )


def label_set_sections(sets: LabelSetSummary | None) -> list[list[Element]]:
    """Return the section of the report about label sets; none without them."""
    if sets is None:
        return []
    note = element("p", promise(sets), class_="note")
    return [[element("h2", "Label sets"), note, listing(_tiles(sets), class_="tiles")]]


def _tiles(sets: LabelSetSummary) -> Iterator[Element]:
    size = "–" if sets.mean_size is None else f"{sets.mean_size:.2f}"
    yield tile("Labels of a set", size, "on average")
    yield tile("One label", _share(sets.single, sets), "of the sets have exactly one")
    yield tile("No label", _share(sets.empty, sets), "unlike every class")
    yield tile("All classes", _share(sets.full, sets), "say nothing")
    if sets.containing is not None:
        yield tile(
            "True label inside", percent(sets.containing), f"of {plural(sets.known, 'set')} whose label is known"
        )


def _share(count: int, sets: LabelSetSummary) -> str:
    return percent(count / sets.images if sets.images else None)


def _duration(hours: float) -> str:
    if hours >= 1:
        return f"about {hours:,.1f} hours"
    return f"about {round(60 * hours)} min" if 60 * hours >= 1 else "less than a minute"
