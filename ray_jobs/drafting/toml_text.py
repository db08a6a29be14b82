"""Commented TOML: sections with settings, each with a comment, and settings to uncomment."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time

from cluster.records.names import printable
from cluster.secrets import public_url

COMMENT_COLUMN = 36
"""Where comments begin, if the setting before them is shorter."""
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Setting:
    """A line of a section.

    Attributes:
        key: its key.
        value: text, number, boolean, date, list or table.
        comment: what stands behind it.
        is_active: whether the line counts; if not, it is commented out.
    """

    key: str
    value: object
    comment: str = ""
    is_active: bool = True


@dataclass(frozen=True, slots=True)
class Section:
    """A section, such as `[archive]`.

    Attributes:
        name: its name.
        settings: its lines, in order. If none of them is active, the section is commented out as a whole.
        comment: what stands behind its header.
    """

    name: str
    settings: tuple[Setting, ...]
    comment: str = ""

    @property
    def is_active(self) -> bool:
        """Whether any setting counts."""
        return any(setting.is_active for setting in self.settings)

    def overridden(self, values: Mapping[str, object]) -> Section:
        """Return the section with these values, which replace what is there, commented out or not."""
        own = {setting.key for setting in self.settings if setting.key in values and setting.is_active}
        kept = []
        for setting in self.settings:
            if setting.key not in values:
                kept.append(setting)
            elif setting.is_active or setting.key not in own:
                own.add(setting.key)
                comment = setting.comment if values[setting.key] == setting.value else ""
                kept.append(Setting(setting.key, values[setting.key], comment))
        new = (Setting(key, value) for key, value in values.items() if key not in own)
        return Section(self.name, (*kept, *new), self.comment)


def override_sections(sections: Sequence[Section], values: Mapping[str, Mapping[str, object]]) -> list[Section]:
    """Return the sections with these values, by section and key; a section that is not there yet comes last."""
    known = [section.overridden(values.get(section.name, {})) for section in sections]
    names = {section.name for section in sections}
    return known + [Section(name, ()).overridden(content) for name, content in values.items() if name not in names]


def without_queries(sections: Iterable[Section]) -> list[Section]:
    """Return the sections without the query strings of HTTP URLs, which can be signatures, as results store them."""
    return [
        replace(section, settings=tuple(replace(item, value=_without_query(item.value)) for item in section.settings))
        for section in sections
    ]


def render(header: Iterable[str], sections: Iterable[Section]) -> str:
    """Return the text of the sections, below a comment.

    Args:
        header: lines of the comment at its beginning.
        sections: in order.
    """
    blocks = ["\n".join(f"# {printable(line)}".rstrip() for line in header), *map(_section_text, sections)]
    return "\n\n".join(blocks) + "\n"


def toml_value(value: object) -> str:
    """Return a value in TOML, on one line.

    Raises:
        TypeError: TOML has no such value.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case str():  # JSON's strings are TOML's, but for one control character.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case int() | float():
            return repr(value)
        case datetime() | date() | time():
            return value.isoformat()
        case list() | tuple():
            return f"[{', '.join(map(toml_value, value))}]"
        case dict():
            pairs = (f"{toml_key(key)} = {toml_value(item)}" for key, item in value.items())
            return f"{{{', '.join(pairs)}}}"
    raise TypeError(f"TOML has no value for {type(value).__name__}")


def toml_key(key: str) -> str:
    """Return a key in TOML, quoted where it must be."""
    return key if _BARE_KEY.fullmatch(key) else toml_value(key)


def _without_query(value: object) -> object:
    is_http = isinstance(value, str) and value.startswith(("http://", "https://"))
    return public_url(str(value)) if is_http else value


def _section_text(section: Section) -> str:
    header = _line(f"[{toml_key(section.name)}]", section.comment, is_active=section.is_active)
    lines = (
        _line(f"{toml_key(setting.key)} = {toml_value(setting.value)}", setting.comment, is_active=setting.is_active)
        for setting in section.settings
    )
    return "\n".join([header, *lines])


def _line(text: str, comment: str, *, is_active: bool) -> str:
    text = text if is_active else f"# {text}"
    return f"{text:<{COMMENT_COLUMN - 1}} # {printable(comment)}" if comment else text
