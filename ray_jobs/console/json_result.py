"""A command's result: JSON on stdout, or, from a Ray job, on its way through the log to whoever waits for it.

The log is the one channel that leads back. The driver writes the result there as one marked line, in a single write, so
that nothing else can come between; what is told for people is never read by a program.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

RESULT_LINE = "FEWSHOT_RESULT_LINE"
"""The environment variable that asks a command for such a line."""
_MARK = "@@fewshot-result@@ "


def written(result: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """A result as a command writes it: for whoever reads stdout, or for `LogReader`.

    Args:
        result: JSON.
        environment: of the command.
    """
    if RESULT_LINE in environment:
        return f"{_MARK}{json.dumps(result, ensure_ascii=False)}\n"
    return json.dumps(result, indent=2, ensure_ascii=False) + "\n"


class LogReader:
    """Takes the log of a job apart into whole lines for people and the result.

    Args:
        show: called with every line for people, its end included.
    """

    def __init__(self, show: Callable[[str], object]) -> None:
        self._show = show
        self._rest = ""
        self.result: dict[str, Any] | None = None

    def feed(self, text: str) -> None:
        """Take the next piece of the log, wherever it was cut."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._take(line)

    def close(self) -> None:
        """The log is at its end."""
        if self._rest:
            self._take(self._rest)
        self._rest = ""

    def _take(self, line: str) -> None:
        before, mark, result = line.partition(_MARK)
        if mark:
            self.result = json.loads(result)
        if before or not mark:
            self._show(f"{before}\n")
