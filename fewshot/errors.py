"""What can go wrong in the library. Leaves also inherit the built-in that callers would expect."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

SHOWN = 20
"""Names that an error lists in full; of more, the nearest."""


class FewShotError(Exception):
    """Base of every error this package raises on purpose."""


class UnreadableImageError(FewShotError, ValueError):
    """An image that cannot be decoded, or is refused. The message is the reason, fit for a report."""


class DataError(FewShotError, ValueError):
    """Examples, splits or features that do not fit together."""


class BackboneError(FewShotError, RuntimeError):
    """A backbone cannot be loaded. The message names what is missing and how to get it."""


class UnknownNameError(FewShotError, LookupError):
    """A name that is not in a table; suggests the nearest one.

    Args:
        kind: what is named, e.g. "method".
        name: the name that was given.
        known: the names there are.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        listed = ", ".join(names) if len(names) <= SHOWN else f"{', '.join(near or names[:5])} and {len(names)} in all"
        super().__init__(f"unknown {kind} {name!r}.{hint} Known: {listed}.")


def raise_if_any(source: str, problems: Sequence[str]) -> None:
    """Raise when there are problems; the message lists the first 20 and counts the rest.

    Args:
        source: what is wrong, e.g. a file name.
        problems: one line each; empty returns quietly.

    Raises:
        DataError: `problems` is not empty.
    """
    if not problems:
        return
    lines = [f"  {problem}" for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"  … and {len(problems) - SHOWN} more")
    raise DataError("\n".join([f"{source} cannot be used:", *lines]))
