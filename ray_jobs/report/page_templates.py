"""Pages from templates: Jinja2 escapes every value, and `outside` bounds text from outside, as in `markup`."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterable
from functools import cache
from importlib.resources import files
from typing import Any
from xml.etree.ElementTree import Element, tostring

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fewshot.digests import PLACEHOLDER, seal
from ray_jobs.report.markup import bar, number, outside, percent, plural

STYLE, SCRIPT = "style.css", "sortable_table.js"


def render_page(template: str, **values: object) -> bytes:
    """Render a template as a whole page, sealed (see `fewshot.digests`).

    Args:
        template: name of a file in `templates`.
        values: what it shows.

    Returns:
        HTML in UTF-8. The same values give the same bytes.
    """
    page = _environment().get_template(template).render(values)
    return seal(f"{page}\n<!-- {PLACEHOLDER} -->\n".encode())


def render_sections(title: str, sections: Iterable[Iterable[Element]], *, heading: Element | None = None) -> bytes:
    """Render a page of sections, as `render_page` does.

    Args:
        title: of the page.
        sections: their elements; those without any are left out.
        heading: above them.
    """
    nodes = [nodes for section in sections if (nodes := list(section))]
    return render_page("sections.html", title=title, heading=heading, sections=nodes)


def content_policy(*, script: str | None = None) -> str:
    """Return the Content-Security-Policy of a page: nothing is fetched, and nothing is run but one script.

    Args:
        script: the text of an inline script; None allows none.
    """
    rules = ["default-src 'none'", "img-src data:", f"style-src {_allowed(read_asset(STYLE))}"]
    rules += [] if script is None else [f"script-src {_allowed(script)}"]
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])


@cache
def read_asset(name: str) -> str:
    """Return the text of a file beside this one, which becomes a part of every page."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _allowed(text: str) -> str:
    """Return a source of the policy that allows this text alone."""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "outside": _markup(outside),
        "tree": _markup(lambda tree: tree),
        "bar": _markup(bar),
        "number": number,
        "percent": percent,
        "plural": plural,
    }
    script = read_asset(SCRIPT)
    environment.globals |= {
        "style": Markup(read_asset(STYLE)),  # noqa: S704 - ours
        "script": Markup(script),  # noqa: S704 - ours
        "policy": Markup(content_policy()),  # noqa: S704 - ours
        "script_policy": Markup(content_policy(script=script)),  # noqa: S704 - ours
    }
    return environment


def _markup(made: Callable[..., Any]) -> Callable[..., Markup]:
    """Return a function of `markup` as a filter."""

    def render(*values: Any, **options: Any) -> Markup:
        return Markup(tostring(made(*values, **options), encoding="unicode", method="html"))  # noqa: S704

    return render
