"""The JSON result of a command: on stdout, or as one marked line in the log of a submitted job.

The log is the only channel back from a job on a cluster. The driver writes the result there in a single write, so that
no other output can split it. Programs read this line and nothing else of the log.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray_jobs.results.json_format import JsonObject

RESULT_LINE = "FEWSHOT_RESULT_LINE"
"""Environment variable that makes a command write its result as a marked line."""
_MARK = "@@fewshot-result@@ "


def format_result(result: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """Return the text that a command writes to stdout.

    Args:
        result: JSON values.
        environment: of the command; with `RESULT_LINE` in it the text is a marked line for `LogReader`, otherwise
            indented JSON.
    """
    if RESULT_LINE in environment:
        return f"{_MARK}{json.dumps(result, ensure_ascii=False)}\n"
    return json.dumps(result, indent=2, ensure_ascii=False) + "\n"


class LogReader:
    """Split the log of a job into lines for people and the result.

    Args:
        show: called with every whole line for people, its line end included.

    Attributes:
        result: the result; None until its line was read.
    """

    def __init__(self, show: Callable[[str], object]) -> None:
        self._show = show
        self._rest = ""
        self.result: JsonObject | None = None

    def feed(self, text: str) -> None:
        """Read the next piece of the log, which may be cut anywhere."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._read_line(line)

    def close(self) -> None:
        """Read what is left at the end of the log as a line."""
        if self._rest:
            self._read_line(self._rest)
        self._rest = ""

    def _read_line(self, line: str) -> None:
        before, mark, result = line.partition(_MARK)
        if mark:
            self.result = json.loads(result)
        if before or not mark:
            self._show(f"{before}\n")
