"""All that is wrong with a file, said at once."""

from __future__ import annotations

from collections.abc import Sequence

from fewshot.errors import DataError

SHOWN = 20


def refuse_if_any(source: str, problems: Sequence[str]) -> None:
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
