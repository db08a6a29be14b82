"""What can go wrong in the library. Leaves also inherit the built-in that callers would expect."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

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
