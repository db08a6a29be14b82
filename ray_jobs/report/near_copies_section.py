"""The sections on images that are nearly the same: copies in the archive, and copies of examples in it."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from ray_jobs.report.contact_sheet import KEY, picture
from ray_jobs.report.image_sample import NEAR_DUPLICATE
from ray_jobs.report.markup import element, number, outside, percent, plural, table
from ray_jobs.report.near_copies import SAME, CopiedImage, Leak, Leaks
from ray_jobs.report.report_data import Contents

NO_LABEL = "–"


def copies_section(contents: Contents) -> Iterator[Element]:
    """Return the section on copies among the images looked at; nothing if there are none."""
    found = contents.copies
    if found is None or not found.groups:
        return
    yield element("h2", "Nearly the same")
    share = percent(found.images / found.looked_at)
    looked_at = plural(found.looked_at, "image")
    yield element(
        "p",
        f"Of {looked_at} looked at, {number(found.images)} ({share}) are nearly the same as another one (cosine of"
        f" their features above {NEAR_DUPLICATE}). Where copies have several labels, all but one of them are wrong. An"
        " accuracy that is measured on copies is less certain than their number says.",
        class_="note",
    )
    groups = zip(found.groups, found.sizes, strict=True)
    yield table(("images", "labels", "some of them"), (_group(group, size, contents) for group, size in groups))


def _group(group: tuple[CopiedImage, ...], size: int, contents: Contents) -> Element:
    labels = dict.fromkeys(NO_LABEL if each.label is None else each.label for each in group)
    names = [node for label in labels for node in (", ", outside(label, limit=KEY))][1:]
    pictures = [picture(contents.pictures.get(each.spot)) for each in group]
    return element(
        "tr",
        element("td", number(size), class_="count"),
        element("td", *names),
        element("td", element("div", *pictures, class_="strip"), element("p", outside(group[0].image), class_="key")),
    )


def leaks_section(contents: Contents) -> Iterator[Element]:
    """Return the section on copies of examples in the archive; nothing if there are none."""
    found = contents.found_examples.leaks
    if found is None or not found.images:
        return
    yield element("h2", "Examples in the archive")
    yield element("p", f"{_counted(found)} {_meaning(found, contents)}", class_="note")
    head = ("in the archive", "example", "cosine", "predicted", "class of the example")
    yield table(head, (_leak(leak, contents) for leak in found.shown))


def _counted(found: Leaks) -> str:
    share = percent(found.images / found.looked_at)
    same = f", {number(found.same)} of them the same picture to the model (above {SAME})" if found.same else ""
    return (
        f"Of {plural(found.looked_at, 'image')} compared with the examples, {number(found.images)} ({share}) are nearly"
        f" the same as one of them (cosine above {NEAR_DUPLICATE}){same}."
    )


def _meaning(found: Leaks, contents: Contents) -> str:
    """Return what copies of examples mean for the accuracy."""
    learned = "The classifier has learned from them, so whether they are labelled right says nothing about the others."
    if contents.metrics.measured is None:
        return learned
    share = percent(found.images / found.looked_at)
    return f"{learned} As far as their labels were given, the accuracy above is too high, by {share} at most."


def _leak(leak: Leak, contents: Contents) -> Element:
    example = contents.found_examples.pictures.get(leak.example)
    label = NO_LABEL if leak.copy.label is None else leak.copy.label
    return element(
        "tr",
        element("td", _pictured(contents.pictures.get(leak.copy.spot), leak.copy.image)),
        element("td", _pictured(example, leak.example)),
        element("td", f"{leak.cosine:.4f}", class_="count"),
        element("td", outside(label, limit=KEY)),
        element("td", outside(leak.given, limit=KEY)),
    )


def _pictured(data: str | None, name: str) -> Element:
    return element(
        "div", element("div", picture(data), class_="strip"), element("p", outside(name, limit=KEY), class_="key")
    )
