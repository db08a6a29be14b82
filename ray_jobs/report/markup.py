"""Parts of a page as trees, so that no text from outside can become markup; `page_templates` writes them out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element

Node = Element | str | None

_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})


def element(tag: str, *children: Node, **attributes: str | float) -> Element:
    """Return an element with its content.

    Args:
        tag: name of the element.
        children: elements and texts, in order; None is left out.
        attributes: `class_` is "class", `stroke_width` is "stroke-width".
    """
    made = Element(tag, {name.rstrip("_").replace("_", "-"): str(value) for name, value in attributes.items()})
    last: Element | None = None
    for child in children:
        if isinstance(child, Element):
            made.append(child)
            last = child
        elif child is not None and last is not None:
            last.tail = (last.tail or "") + child
        elif child is not None:
            made.text = (made.text or "") + child
    return made


def outside(text: str, *, limit: int = 80) -> Element:
    """Return text from outside (a label, a key, a reason): bounded in length, its direction of writing isolated.

    Lines may break behind "_", "/" and "-", which join the words of names.

    Args:
        text: any text.
        limit: characters shown; of a longer text both ends, where names differ.
    """
    head, tail = limit // 2, limit - limit // 2 - 1
    short = text if len(text) <= limit else f"{text[:head]}…{text[-tail:]}"
    plain = "".join("\ufffd" if unicodedata.category(char) in _UNPRINTABLE else char for char in short)
    first, *rest = re.split(r"(?<=[_/-])", plain)
    return element("bdi", first, *(node for word in rest for node in (element("wbr"), word)))


def tile(name: str, value: str, meaning: str, class_: str = "") -> Element:
    """Return a tile: a number with its name above and its meaning below; `class_` colours it."""
    parts = (
        element("span", name, class_="name"),
        element("strong", value),
        element("span", meaning, class_="meaning"),
    )
    return element("div", *parts, class_=f"tile {class_}".rstrip())


def bar(fraction: float, class_: str = "bar") -> Element:
    """Draw a bar: the filled part is a fraction in [0, 1]. The number itself is beside it, so it has no name."""
    filled = element("rect", width=f"{100 * fraction:.1f}", height=6)
    return element("svg", filled, class_=class_, viewBox="0 0 100 6", preserveAspectRatio="none", aria_hidden="true")


def table(names: Sequence[str], rows: Iterable[Element]) -> Element:
    """Return a table with a title for each column."""
    head = element("tr", *(element("th", name, scope="col") for name in names))
    return element("table", element("thead", head), element("tbody", *rows))


def listing(items: Iterable[Element], *, class_: str) -> Element:
    """Return elements as a list."""
    return element("ul", *(element("li", item) for item in items), class_=class_)


def number(count: int) -> str:
    """Return a count with separators between thousands."""
    return f"{count:,}"


def percent(fraction: float | None) -> str:
    """Return a fraction in [0, 1] as a percentage; a dash for None and NaN."""
    return "–" if fraction is None or fraction != fraction else f"{100 * fraction:.1f}\u00a0%"


def skipped_entries(count: int) -> str:
    """Return a phrase for entries that were skipped: "2 entries were skipped, not images by their names"."""
    verb, reason = ("was", "not an image by its name") if count == 1 else ("were", "not images by their names")
    return f"{plural(count, 'entry', 'entries')} {verb} skipped, {reason}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun."""
    return f"{number(count)} {one if count == 1 else many or f'{one}s'}"
