"""The page of what changed between two runs: the old label always left, the new one right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from xml.etree.ElementTree import Element

from ray_jobs.report.contact_sheet import KEY, picture
from ray_jobs.report.markup import bar, element, listing, number, outside, percent, plural, table, tile
from ray_jobs.report.page_templates import render_sections
from ray_jobs.results.churn_result import Churn, ClassChurn, ComparedRun, FlippedImage, FlippedPair, KnownFlips

PAIRS, CLASSES = 40, 60
"""Pairs and classes in the tables, those with the most flipped images."""


def render_churn(churn: Churn, pictures: Sequence[str | None], *, undo: str | None = None) -> bytes:
    """Render the page, in UTF-8. The same values give the same bytes.

    Args:
        churn: what changed.
        pictures: data URI of each image of the sample; None where there is none.
        undo: the command that undoes the change; None if there is none.
    """
    sections = (_counts(churn), _known(churn), _pairs(churn), _strips(churn, pictures), _classes(churn), _undo(undo))
    return render_sections(f"Changed labels of {churn.job}", sections, heading=_heading(churn))


def _heading(churn: Churn) -> Element:
    line = ("Job ", outside(churn.job), ": ", *_named(churn.before), " → ", *_named(churn.after), ".")
    return element(
        "header",
        element("nav", element("a", "Report", href="index.html"), aria_label="Pages"),
        element("h1", churn.sentence()),
        element("p", *line, class_="lead"),
    )


def _named(run: ComparedRun) -> tuple[Element | str, ...]:
    name = element("code", outside(run.run))
    return (name,) if run.version is None else (f"version {run.version} (", name, ")")


def _counts(churn: Churn) -> Iterator[Element]:
    yield element("h2", "What was compared")
    tiles = [
        tile("Changed", number(churn.flipped), "another class than before", "abstained" if churn.flipped else "ok"),
        tile("Compared", number(churn.images), "in both runs and readable"),
    ]
    tiles += [
        tile(name, number(count), meaning)
        for name, count, meaning in (
            ("To new classes", churn.to_new_classes, "of the changed ones"),
            ("New images", churn.new, "not in the former run"),
            ("Gone images", churn.gone, "not in the present run"),
            ("Unreadable", churn.unreadable, "in one run at least"),
        )
        if count
    ]
    yield listing(tiles, class_="tiles")
    for title, names in (("New classes", churn.new_classes), ("Removed classes", churn.removed_classes)):
        if names:
            yield element("p", f"{title}: ", *_few(names), class_="note")
    if churn.renamed:
        told = _joined(
            [element("span", outside(old), " is now ", outside(new)) for old, new in churn.renamed[:CLASSES]]
        )
        yield element("p", "Renamed classes are no change: ", *told, class_="note")
    if churn.withheld:
        yield element("h3", "Labels that were withheld, or are now")
        rows = (
            element("tr", element("td", each.before), element("td", each.after), _count(each.images))
            for each in churn.withheld
        )
        yield table(("status before", "status now", "images"), rows)


def _few(names: Sequence[str]) -> Iterator[Element | str]:
    yield from _joined([outside(name, limit=KEY) for name in names[:CLASSES]])
    if len(names) > CLASSES:
        yield f" and {number(len(names) - CLASSES)} more"


def _joined(items: Sequence[Element]) -> Iterator[Element | str]:
    for place, item in enumerate(items):
        if place:
            yield ", "
        yield item


def _known(churn: Churn) -> Iterator[Element]:
    """Say what became of flipped images with known labels; nothing where there are none."""
    counts = [(churn.known, "that no classifier learned from"), (churn.learned, "that a classifier learned from")]
    rows = [_known_row(each, which) for each, which in counts if each is not None and each.images]
    if rows:
        yield element("h2", "Changed labels that people know")
        if churn.learned is not None and churn.learned.images:
            note = "A classifier is mostly right about images that it learned from, so these say little about others."
            yield element("p", note, class_="note")
        names = ("images", "wrong → right", "right → wrong", "wrong → wrong")
        yield table(names, rows)


def _known_row(counts: KnownFlips, which: str) -> Element:
    cells = (_count(each) for each in (counts.right, counts.wrong, counts.neither))
    return element("tr", element("th", f"{number(counts.images)} {which}", scope="row"), *cells)


def _pairs(churn: Churn) -> Iterator[Element]:
    yield element("h2", "Which labels changed")
    if not churn.pairs:
        yield element("p", "No image has another class than before.", class_="note")
        return
    total = len(churn.pairs) + churn.more_pairs
    if total > PAIRS:
        yield element("p", f"The {PAIRS} most frequent of {number(total)} pairs of classes.", class_="note")
    yield table(("before", "now", "images", "of all changed"), (_pair(each, churn) for each in churn.pairs[:PAIRS]))


def _pair(pair: FlippedPair, churn: Churn) -> Element:
    share = pair.images / churn.flipped
    return element(
        "tr",
        element("td", outside(pair.before)),
        element("td", "→ ", outside(pair.after), " (new class)" if pair.after in churn.new_classes else None),
        _count(pair.images),
        _bar(share, percent(share)),
    )


def _strips(churn: Churn, pictures: Sequence[str | None]) -> Iterator[Element]:
    """Show the sample, pair by pair; pairs of one image together."""
    if not churn.sample:
        return
    yield element("h2", "Some of the changed images")
    note = "Chosen by their keys, so the same images are shown each time. Left the label before, right the one now."
    yield element("p", note, class_="note")
    images = {(pair.before, pair.after): pair.images for pair in churn.pairs}
    shown = zip(churn.sample, pictures, strict=True)
    single: list[Element] = []
    for pair, group in groupby(shown, key=lambda each: (each[0].before, each[0].after)):
        cards = [_card(flip, data) for flip, data in group]
        if len(cards) == 1:
            single += cards
            continue
        of_all = f" ({len(cards)} of {plural(images[pair], 'image')})"
        yield element("h3", outside(pair[0]), " → ", outside(pair[1]), of_all)
        yield listing(cards, class_="cards flips")
    if single:
        yield element("h3", "Pairs of classes with one image here")
        yield listing(single, class_="cards flips")


def _card(flip: FlippedImage, data: str | None) -> Element:
    return element(
        "figure",
        picture(data),
        element(
            "figcaption",
            element(
                "p",
                _side("before", flip.before, flip.before_score),
                element("span", "→", class_="arrow"),
                _side("now", flip.after, flip.after_score),
                class_="change",
            ),
            element("p", outside(flip.image, limit=KEY), class_="key"),
        ),
        class_="card",
    )


def _side(when: str, label: str, score: float | None) -> Element:
    """One of the two labels of an image, with its score if it has one."""
    return element(
        "span",
        element("span", f"{when} ", class_="when"),
        outside(label, limit=KEY),
        None if score is None else element("span", f" {score:.2f}", class_="when"),
    )


def _classes(churn: Churn) -> Iterator[Element]:
    changed = sorted(
        (each for each in churn.classes if each.gained or each.lost),
        key=lambda each: (-(each.gained + each.lost), each.label),
    )
    if not changed:
        return
    yield element("h2", "Class by class")
    note = "Labels that were lost, left, and gained, right. Withheld labels count as none."
    if len(changed) > CLASSES:
        note += f" The {CLASSES} classes with most of them, of {number(len(changed))} that changed."
    yield element("p", note, class_="note")
    most = max(max(each.gained, each.lost) for each in changed[:CLASSES])
    names = ("class", "before", "lost", "gained", "now")
    rows = table(names, (_class(each, most) for each in changed[:CLASSES]))
    yield element("div", rows, class_="wide", role="region", aria_label="Classes", tabindex=0)


def _class(each: ClassChurn, most: int) -> Element:
    return element(
        "tr",
        element("th", outside(each.label), scope="row"),
        _count(each.kept + each.lost),
        _bar(each.lost / most, f"−{number(each.lost)}" if each.lost else "0", "bar lost"),
        _bar(each.gained / most, f"+{number(each.gained)}" if each.gained else "0"),
        _count(each.kept + each.gained),
    )


def _bar(fraction: float, text: str, class_: str = "bar") -> Element:
    """A cell with a bar and what it stands for."""
    return element("td", element("p", bar(fraction, class_), element("span", text, class_="value"), class_="score"))


def _count(images: int) -> Element:
    return element("td", number(images), class_="count")


def _undo(command: str | None) -> Iterator[Element]:
    if command is not None:
        yield element("h2", "To undo it")
        note = "Puts the former version into production again; the next fewshot retrain labels the archive with it."
        yield element("p", note, class_="note")
        yield element("pre", element("code", outside(command, limit=2000)))
