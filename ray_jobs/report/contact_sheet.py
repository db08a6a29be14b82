"""The contact sheet: images of the archive with their labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from ray_jobs.report.failures import Broken, some_of_each
from ray_jobs.report.image_sample import Labelled, UnknownImage
from ray_jobs.report.markup import bar, element, listing, outside, plural
from ray_jobs.report.pictures import ARCHIVE_SIDE
from ray_jobs.report.report_data import Contents

KEY = 48
"""Characters of a name in small print."""
NONE_UNKNOWN = "None of the images looked at is unknown."


def contact_sheet(contents: Contents) -> Iterator[Element]:
    """Return three groups of cards, and one of unknown images where there can be any."""
    looked_at = plural(contents.sample.images, "image")
    yield element("h2", "A look at the archive")
    copies = contents.sample.copies
    left_out = f" Left out: {plural(copies, 'image')}, nearly the same as one that is shown." if copies else ""
    sampled = f"The most and the least certain of {looked_at}, sampled from all over the archive.{left_out}"
    yield element("p", sampled, class_="note")
    none = "No image that was read has a score." if contents.escalated else "Nothing could be read."
    yield from _group("Most certain", [_labelled(row, contents) for row in contents.sample.sure], none=none)
    yield from _group(
        "Least certain", [_labelled(row, contents) for row in contents.sample.unsure], none="There are no more."
    )
    if (unknown := contents.metrics.unknown) is not None:
        yield from _group("Unknown", [_unknown(row, contents) for row in contents.sample.unknown], none=NONE_UNKNOWN)
        yield element("p", unknown.sentence(), class_="note")
    broken = [_unreadable(image) for image in some_of_each(contents.reasons)]
    yield from _group("Unreadable", broken, none="Every image could be read.")


def _group(title: str, cards: Sequence[Element], *, none: str) -> Iterator[Element]:
    yield element("h3", title)
    yield listing(cards, class_="cards") if cards else element("p", none, class_="note")


def _labelled(row: Labelled, contents: Contents) -> Element:
    badge = element("span", "abstained", class_="badge") if row.abstained else None
    second = None
    if row.second is not None:
        score = None if row.second[1] is None else f" {row.second[1]:.2f}"
        second = element("p", "or ", outside(row.second[0], limit=KEY), score, class_="second")
    return element(
        "figure",
        picture(contents.pictures.get(row.spot)),
        badge,
        element(
            "figcaption",
            element("p", outside(row.label), class_="label"),
            None if row.score is None else _score(row.score),
            second,
            element("p", outside(row.image, limit=KEY), class_="key"),
        ),
        class_="card abstained" if row.abstained else "card",
    )


def _unknown(row: UnknownImage, contents: Contents) -> Element:
    return element(
        "figure",
        picture(contents.pictures.get(row.spot)),
        element(
            "figcaption",
            element("p", f"p-value {row.p_value:.3g}", class_="label"),
            element("p", "most like ", outside(row.label, limit=KEY), class_="second"),
            element("p", outside(row.image, limit=KEY), class_="key"),
        ),
        class_="card unknown",
    )


def _unreadable(broken: Broken) -> Element:
    reason = element("p", outside(broken.error, limit=160), class_="reason")
    return element(
        "figure",
        element("div", reason, class_="picture"),
        element("figcaption", element("p", outside(broken.image, limit=KEY), class_="key")),
        class_="card unreadable",
    )


def picture(data: str | None) -> Element:
    """Return the upper part of a card."""
    shown = element("span", "no picture") if data is None else image(data, side=ARCHIVE_SIDE)
    return element("div", shown, class_="picture")


def image(data: str, *, side: int) -> Element:
    """Return a picture inside a square; its caption is beside it."""
    return element("img", src=data, alt="", width=side, height=side, loading="lazy")


def _score(score: float) -> Element:
    return element("p", bar(score), f"{score:.2f}", class_="score")
