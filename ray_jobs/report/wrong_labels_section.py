"""The sections on mistakes: where labels were given, what is wrong, and which classes fare badly; odd examples."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from ray_jobs.report.charts import accuracy_by_coverage
from ray_jobs.report.contact_sheet import KEY, picture
from ray_jobs.report.markup import element, listing, number, outside, percent, plural, table
from ray_jobs.report.odd_examples import OddExample
from ray_jobs.report.report_data import Contents
from ray_jobs.report.wrong_labels import ClassCounts, Confusion, Mistake, Mistakes

CLASSES = 60
"""Classes in the table, those with the lowest recall."""


def mistakes_section(contents: Contents) -> Iterator[Element]:
    """Return the section; nothing where no labels were given."""
    found = contents.mistakes
    if found is None:
        return
    yield element("h2", "Where it is wrong")
    share = percent(found.wrong / found.images)
    given = f"{plural(found.images, 'image')} with a given label"
    yield element(
        "p", f"Of {given}, {number(found.wrong)} ({share}) have another one, withheld ones too.", class_="note"
    )
    if found.curve:
        caption = "Accuracy if only the most certain images were labelled, with 95 % intervals"
        chart = element("figure", element("figcaption", caption), accuracy_by_coverage(found.curve))
        yield element("div", chart, class_="charts")
    if found.wrong:
        yield from _certain(found, contents)
        yield from _confusions(found, contents)
    yield from _classes(found)


def _certain(found: Mistakes, contents: Contents) -> Iterator[Element]:
    yield element("h3", "Most certain mistakes")
    note = "Some of them may be mistakes in the given labels."
    yield element("p", note, class_="note")
    yield listing((_card(mistake, contents) for mistake in found.most_certain), class_="cards")


def _card(mistake: Mistake, contents: Contents) -> Element:
    score = "" if mistake.score is None else f" {mistake.score:.2f}"
    return element(
        "figure",
        picture(contents.pictures.get(mistake.spot)),
        element("span", "abstained", class_="badge") if mistake.withheld else None,
        element(
            "figcaption",
            element("p", outside(mistake.label), score, class_="label"),
            element("p", "given: ", outside(mistake.given, limit=KEY), class_="second"),
            element("p", outside(mistake.image, limit=KEY), class_="key"),
        ),
        class_="card abstained" if mistake.withheld else "card",
    )


def _confusions(found: Mistakes, contents: Contents) -> Iterator[Element]:
    yield element("h3", "Classes that are confused")
    of_class = {each.name: each.images for each in found.classes}
    rows = (_confusion(pair, of_class[pair.given], contents) for pair in found.confusions)
    yield table(("given", "predicted", "images", "of its images", "some of them"), rows)


def _confusion(pair: Confusion, images: int, contents: Contents) -> Element:
    pictures = [picture(contents.pictures.get(mistake.spot)) for mistake in pair.examples]
    return element(
        "tr",
        element("td", outside(pair.given)),
        element("td", outside(pair.label)),
        element("td", number(pair.images), class_="count"),
        element("td", percent(pair.images / images), class_="count"),
        element("td", element("div", *pictures, class_="strip")),
    )


def _classes(found: Mistakes) -> Iterator[Element]:
    yield element("h3", "Class by class")
    shown = found.classes[:CLASSES]
    if len(found.classes) > len(shown):
        yield element("p", f"The {len(shown)} of {number(len(found.classes))} with the lowest recall.", class_="note")
    names = ("class", "images", "recall", "predicted", "precision")
    yield table(names, map(_class, shown))


def _class(counts: ClassCounts) -> Element:
    return element(
        "tr",
        element("td", outside(counts.name)),
        element("td", number(counts.images), class_="count"),
        element("td", percent(counts.recall), class_="count"),
        element("td", number(counts.predicted), class_="count"),
        element("td", percent(counts.precision), class_="count"),
    )


def odd_examples_section(contents: Contents) -> Iterator[Element]:
    """Return the section on examples that look mislabelled; nothing if there are none."""
    if not contents.found_examples.odd:
        return
    yield element("h2", "Examples to look at")
    note = "Each is more like another class than like the other examples of its own. Some may be mislabelled."
    yield element("p", note, class_="note")
    yield listing((_odd_card(example, contents) for example in contents.found_examples.odd), class_="cards")


def _odd_card(example: OddExample, contents: Contents) -> Element:
    return element(
        "figure",
        picture(contents.found_examples.pictures.get(example.image)),
        element(
            "figcaption",
            element("p", outside(example.label), class_="label"),
            element("p", "more like ", outside(example.nearest, limit=KEY), class_="second"),
            element("p", outside(example.image, limit=KEY), class_="key"),
        ),
        class_="card",
    )
