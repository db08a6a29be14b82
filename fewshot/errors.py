"""Errors of the library. Each also inherits from the built-in exception that callers may expect."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

SHOWN = 20
"""Maximum number of names or problems that an error message lists."""


class FewShotError(Exception):
    """Base of every error that this package raises on purpose."""


class UnreadableImageError(FewShotError, ValueError):
    """An image cannot be decoded or is refused. The message is a reason that can be shown in a report."""


class DataError(FewShotError, ValueError):
    """Examples, splits, features or settings are invalid or do not fit together."""


class MissingColumnError(DataError):
    """A table lacks a column that it must have, or has it twice."""


class BackboneError(FewShotError, RuntimeError):
    """A backbone cannot be loaded. The message says what is missing and how to get it."""


class UnknownNameError(FewShotError, LookupError):
    """A name is not in a table; the message suggests the nearest known one.

    Args:
        kind: the kind of thing named, e.g. "method".
        name: the unknown name.
        known: all known names.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        folded = {known_name.casefold(): known_name for known_name in names}
        near = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=5, cutoff=0.5)]
        hint = f" Did you mean {near[0]!r}?" if near else ""
        listed = ", ".join(names) if len(names) <= SHOWN else f"{', '.join(near or names[:5])} and {len(names)} in all"
        super().__init__(f"unknown {kind} {name!r}.{hint} Known: {listed}.")


def raise_if_any(source: str, problems: Sequence[str], kind: type[DataError] = DataError) -> None:
    """Raise a DataError if there are problems; its message lists the first `SHOWN` and counts the rest.

    Args:
        source: the source of the problems, e.g. a file name.
        problems: one line each.
        kind: of the error.

    Raises:
        DataError: `problems` is not empty.
    """
    if not problems:
        return
    lines = [f"  {problem}" for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"  … and {len(problems) - SHOWN} more")
    raise kind("\n".join([f"{source} cannot be used:", *lines]))
