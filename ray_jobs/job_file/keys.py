"""The keys of a table in a job file: names, types, defaults and explanations, read from a dataclass and its docstring.

The dataclass of a section is the one place where its keys are defined. Error messages, the JSON schema, the reference
in `docs/job_file.md` and `fewshot methods NAME` are made from it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Hashable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo

_ATTRIBUTE = re.compile(r" {4}(\w+): (.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key of a table.

    Attributes:
        name: as it is written in the job file.
        annotation: type, with pydantic's constraints.
        default: value if the key is left out: None if that means "not set", the dataclass itself for a table with its
            defaults; `dataclasses.MISSING` if the key is required.
        help: explanation.
    """

    name: str
    annotation: Any
    default: Any
    help: str

    @property
    def expected(self) -> str:
        """The values that the key takes, in words."""
        return expected(self.annotation)

    @property
    def is_required(self) -> bool:
        """Whether the table is wrong without the key."""
        return self.default is MISSING


def keys_of(table: type[Any]) -> Mapping[str, Key]:
    """Return the keys of a table by name, in the order of its fields.

    Args:
        table: a dataclass with an `Attributes` section in its docstring, or in that of a base class. Fields with
            `is_derived` in their metadata are no keys.
    """
    return _keys_of(cast("Hashable", table))


@cache
def _keys_of(table: Any) -> Mapping[str, Key]:
    hints = get_type_hints(table, include_extras=True)
    found = {}
    for field in fields(table):
        if field.metadata.get("is_derived"):
            continue
        help_ = next((text for kind in table.__mro__ if (text := _attributes(kind).get(field.name))), "")
        name = _alias(hints[field.name]) or field.name
        found[name] = Key(name=name, annotation=hints[field.name], default=_default(field), help=help_)
    return found


def title_and_summary(table: type[Any]) -> tuple[str, str]:
    """Return the title of a section, such as "[job]", and what it is for, from its docstring: "Section [job]: …".

    Paragraphs of the summary are on one line each.
    """
    text = re.split(r"^Attributes:\n", inspect.cleandoc(table.__dict__.get("__doc__") or ""), flags=re.M)[0]
    title, _, summary = "\n\n".join(" ".join(part.split()) for part in text.strip().split("\n\n")).partition(": ")
    return title.removeprefix("Section "), f"{summary[:1].upper()}{summary[1:]}"


def table_in(annotation: Any) -> type[Any] | None:
    """Return the dataclass in an annotation such as `tuple[Section, ...]` or `Section | None`, or None."""
    for base, _ in _members(annotation):
        if is_dataclass(base):
            return cast("type[Any]", base)
        if found := next((found for part in get_args(base) if (found := table_in(part))), None):
            return found
    return None


def item_of(annotation: Any) -> Any:
    """Return the type of the items of a list, or of the values of a mapping; None if the type has neither."""
    for base, _ in _members(annotation):
        if get_origin(base) in (tuple, list):
            return get_args(base)[0]
        if get_origin(base) is dict:
            return get_args(base)[1]
    return None


def key_of(annotation: Any) -> Any:
    """Return the type of the keys of a mapping; None if the type is no mapping."""
    return next((get_args(base)[0] for base, _ in _members(annotation) if get_origin(base) is dict), None)


def expected(annotation: Any) -> str:
    """Return in words what values a type takes, such as "an integer of at least 1"; None is left out."""
    return ", or ".join(_words(base, metadata) for base, metadata in _members(annotation))


def _default(field: Field[Any]) -> Any:
    if field.default_factory is MISSING:
        return field.default
    return field.default_factory if is_dataclass(field.default_factory) else field.default_factory()


def _attributes(kind: type[Any]) -> Mapping[str, str]:
    """Return the explanations in the `Attributes` section of a class's own docstring."""
    lines = inspect.cleandoc(kind.__dict__.get("__doc__") or "").partition("Attributes:\n")[2].splitlines()
    found: dict[str, list[str]] = {}
    for line in lines:
        if match := _ATTRIBUTE.fullmatch(line):
            found[match[1]] = [match[2]]
        elif found and line.startswith(" " * 8):
            found[next(reversed(found))].append(line.strip())
    return {name: " ".join(text) for name, text in found.items()}


def _alias(annotation: Any) -> str | None:
    infos = [info for _, metadata in _members(annotation) for info in metadata if isinstance(info, FieldInfo)]
    return next((info.alias for info in infos if info.alias), None)


def _members(annotation: Any, metadata: tuple[Any, ...] = ()) -> list[tuple[Any, tuple[Any, ...]]]:
    """Return the types in a union, None left out, each with what `Annotated` says about it."""
    origin = get_origin(annotation)
    if origin is Annotated:
        base, *more = get_args(annotation)
        return _members(base, (*more, *metadata))
    if origin in (Union, UnionType):
        return [member for part in get_args(annotation) if part is not NoneType for member in _members(part, metadata)]
    return [(annotation, metadata)]


def _words(base: Any, metadata: tuple[Any, ...]) -> str:
    infos = [info for info in metadata if isinstance(info, FieldInfo)]
    if descriptions := [info.description for info in infos if info.description]:
        return descriptions[-1]
    limits = {name: value for info in infos for limit in info.metadata for name, value in _limits(limit).items()}
    origin = get_origin(base)
    if origin is Literal:
        *others, last = (f'"{value}"' for value in get_args(base))
        return f"{', '.join(others)} or {last}" if others else last
    if origin in (tuple, list):
        some = "a list of at least one item" if limits.get("min_length") else "a list"
        return f"{some}, each {expected(get_args(base)[0])}"
    if origin is dict:
        value = get_args(base)[1]
        return "a table" if value is Any else f"a table, each value {expected(value)}"
    names = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}
    return names.get(base, "a table" if is_dataclass(base) else "any value") + _range(limits)


def _range(limits: Mapping[str, Any]) -> str:
    bounds = {"ge": "of at least", "gt": "above", "le": "at most", "lt": "below"}
    given = [f"{words} {limits[name]}" for name, words in bounds.items() if limits.get(name) is not None]
    return f" {' and '.join(given)}" if given else ""


def _limits(limit: Any) -> dict[str, float]:
    """Return the bounds in an item of a field's metadata, such as `annotated_types.Ge`."""
    return {name: getattr(limit, name) for name in ("ge", "gt", "le", "lt", "min_length") if hasattr(limit, name)}
