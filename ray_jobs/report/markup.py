"""HTML as a tree, so that nothing that comes from outside can become markup; written out by the standard library."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from xml.etree.ElementTree import Element, tostring

Node = Element | str | None

_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})


def element(tag: str, *children: Node, **attributes: str | float) -> Element:
    """One element with what is in it.

    Args:
        tag: its name.
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
    """Text from outside (a label, a key, a reason), bounded in length, its direction of writing kept to itself.

    Lines may break behind "_", "/" and "-", of which names are made.

    Args:
        text: any text.
        limit: characters shown; of a longer text both ends, because names differ there.
    """
    head, tail = limit // 2, limit - limit // 2 - 1
    short = text if len(text) <= limit else f"{text[:head]}…{text[-tail:]}"
    plain = "".join("\ufffd" if unicodedata.category(char) in _UNPRINTABLE else char for char in short)
    first, *rest = re.split(r"(?<=[_/-])", plain)
    return element("bdi", first, *(node for word in rest for node in (element("wbr"), word)))


def listing(items: Iterable[Element], *, class_: str) -> Element:
    """Elements as a list."""
    return element("ul", *(element("li", item) for item in items), class_=class_)


def document(root: Element) -> bytes:
    """A whole page, in UTF-8."""
    return f"<!doctype html>\n{tostring(root, encoding='unicode', method='html')}\n".encode()


def number(count: int) -> str:
    """A count, with its thousands told apart."""
    return f"{count:,}"


def percent(fraction: float | None) -> str:
    """A fraction in [0, 1] as a percentage; a dash where there is none."""
    return "–" if fraction is None or fraction != fraction else f"{100 * fraction:.1f}\u00a0%"


def plural(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun."""
    return f"{number(count)} {one if count == 1 else many or f'{one}s'}"
