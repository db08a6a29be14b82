"""Mistakes in a section of a job file, as messages: where, which key, what was expected, what is there."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from pydantic import ValidationError

from ray_jobs.job_file.keys import expected, item_of, key_of, keys_of, table_in
from ray_jobs.job_file.limits import MAX_LINES, MAX_MISTAKES, key_text, shortened

_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_MISSING = ("missing", "missing_argument", "missing_keyword_only_argument")
_NO_CREDENTIALS = " Credentials come from the environment or from the machine's identity."


@dataclass(frozen=True, slots=True)
class Position:
    """Where a section stands, for the beginning of messages.

    Attributes:
        path: the job file.
        text: its content.
        section: name of the section.
        overrides: keys that were given by `--set`, as paths from the section's name on.
    """

    path: str
    text: str
    section: str
    overrides: Collection[tuple[str, ...]] = ()

    def message(self, text: str, key: Sequence[str] = ()) -> str:
        """Return a message that begins with the line of a key, or with the override that gave it.

        Args:
            text: the message.
            key: tables within the section and name of the key; empty for the section itself.
        """
        if key and any((self.section, *key)[: len(path)] == path for path in self.overrides):
            return f"--set {'.'.join(map(key_text, (self.section, *key)))}: {text}"
        line = self._line(key)
        return f"{self.path}{f', line {line}' if line else ''}: {text}"

    def _line(self, key: Sequence[str]) -> int | None:
        """Return the line of a key, or that of the section where the key has none."""
        table, found = "", None
        for number, line in enumerate(self.text.splitlines()[:MAX_LINES], start=1):
            if header := re.match(r"\s*\[\s*([^\]]+?)\s*\]", line):
                table = ".".join(part.strip("\"' ") for part in header[1].split("."))
                if found is None and f"{table}.".startswith(f"{self.section}."):
                    found = number
            elif any(
                table == ".".join([self.section, *key[:depth]])
                and re.match(rf"\s*[\"']?{re.escape(name)}[\"']?\s*=", line)
                for depth, name in enumerate(key)
            ):
                return number
        return found


@dataclass(frozen=True, slots=True)
class Mistake:
    """A mistake in a section.

    Attributes:
        path: keys and indices that lead to the wrong value, from the section on.
        is_missing: whether the value is missing.
        text: message, which begins with the key.
    """

    path: tuple[str | int, ...]
    is_missing: bool
    text: str

    @property
    def key(self) -> tuple[str, ...]:
        """The part of the path before the first index of a list."""
        return tuple(takewhile(lambda part: isinstance(part, str), self.path))  # type: ignore[arg-type]


def find_mistakes(table: type[Any], section: str, error: ValidationError) -> list[Mistake]:
    """Return the mistakes that pydantic found in a section, one for each wrong value.

    Args:
        table: the dataclass of the section.
        section: its name.
        error: what reading the section raised.
    """
    found: dict[tuple[str | int, ...], Mistake] = {}
    for item in error.errors():
        mistake = _mistake(table, section, item)
        found.setdefault(mistake.path, mistake)  # A value that fits no member of a union is one mistake.
    return list(found.values())


def messages(mistakes: Sequence[Mistake], position: Position) -> list[str]:
    """Return a line for each mistake; of very many mistakes the first ones, and the number of the others."""
    shown = [position.message(mistake.text, mistake.key) for mistake in mistakes[:MAX_MISTAKES]]
    more = len(mistakes) - len(shown)
    return [*shown, position.message(f"[{position.section}]: {more} more mistakes")] if more else shown


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the nearest one that is known, and all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"{hint}Known: {', '.join(names)}."


def _mistake(table: type[Any], section: str, item: Any) -> Mistake:
    """Return the mistake behind one of pydantic's errors."""
    path, annotation, key_type = _follow(table, item["loc"])
    if item["type"] in _UNKNOWN:
        name = str(item["loc"][-1])
        known = keys_of(table_in(annotation) or table)
        text = f"unknown key. {suggestion(name, known)}{_NO_CREDENTIALS if section == 'storage' else ''}"
        return Mistake((*path, name), False, f"{place_of(section, (*path, name))}: {text}")
    if item["type"] in _MISSING:
        return Mistake(path, True, f"{place_of(section, path)}: missing; expected {expected(annotation)}")
    if key_type is not None:
        text = f"{place_of(section, path[:-1])}: expected {expected(key_type)}, got {shortened(path[-1])}"
        return Mistake(path[:-1], False, text)
    if item["type"] == "value_error":
        return _of_check(path, annotation, section, item["msg"].removeprefix("Value error, "))
    got = shortened(item["input"])
    return Mistake(path, False, f"{place_of(section, path)}: expected {expected(annotation)}, got {got}")


def _of_check(path: tuple[str | int, ...], annotation: Any, section: str, message: str) -> Mistake:
    """Return the mistake that a check in a dataclass raised; its message begins with a key of that dataclass."""
    kind = table_in(annotation)
    word, _, rest = message.partition(" ")
    if kind is not None and (key := word.removesuffix(":")) in keys_of(kind):
        return Mistake((*path, key), False, f"{place_of(section, (*path, key))}: {rest}")
    return Mistake(path, False, f"{place_of(section, path)}: {message}")


def _follow(table: type[Any], location: Iterable[str | int]) -> tuple[tuple[str | int, ...], Any, Any]:
    """Follow pydantic's location of an error through the types of a section.

    Returns:
        the part of the location that consists of keys and indices (pydantic adds members of unions); the type there;
        and the type of the last key itself, if that is what is wrong, otherwise None.
    """
    annotation: Any = table
    mapping: Any = None
    path: list[str | int] = []
    for part in location:
        kind = table_in(annotation)
        if isinstance(part, str) and kind is not None and part in (keys := keys_of(kind)):
            annotation = keys[part].annotation
        elif (item := item_of(annotation)) is not None and part != "[key]":
            annotation, mapping = item, annotation
        else:
            return tuple(path), annotation, key_of(mapping) if part == "[key]" else None
        path.append(part)
    return tuple(path), annotation, None


def place_of(section: str, path: tuple[str | int, ...]) -> str:
    """Return how messages name a key: "[section.table] key"; where a list is on the way, "[section] list.0.key"."""
    words = [str(part) if isinstance(part, int) else key_text(part) for part in path]
    if any(isinstance(part, int) for part in path):
        return f"[{section}] {'.'.join(words)}"
    return f"[{'.'.join([section, *words[:-1]])}] {''.join(words[-1:])}".rstrip()
